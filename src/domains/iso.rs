//! ISO 3166-1 country codes, as providers write them.
//!
//! Source of the table: ISO 3166-1 (249 entries), and three codes that eSIM Go's lists hold beside them: `AN`
//! (Netherlands Antilles, withdrawn in 2010), `IC` (Canary Islands, reserved, without an alpha-3 code) and `XK`
//! (Kosovo, user-assigned). Alpha-3 codes occur in the wild as well (`CYP`); they are brought to alpha-2.

/// Alpha-2 and alpha-3 of each country in five bytes, sorted.
static CODES: &[u8] = b"\
    ADANDAEAREAFAFGAGATGAIAIAALALBAMARMANANTAOAGOAQATAARARGASASMATAUTAUAUSAWABWAXALAAZAZEBABIHBBBRBBDBGDBEBEL\
    BFBFABGBGRBHBHRBIBDIBJBENBLBLMBMBMUBNBRNBOBOLBQBESBRBRABSBHSBTBTNBVBVTBWBWABYBLRBZBLZCACANCCCCKCDCODCFCAF\
    CGCOGCHCHECICIVCKCOKCLCHLCMCMRCNCHNCOCOLCRCRICUCUBCVCPVCWCUWCXCXRCYCYPCZCZEDEDEUDJDJIDKDNKDMDMADODOMDZDZA\
    ECECUEEESTEGEGYEHESHERERIESESPETETHFIFINFJFJIFKFLKFMFSMFOFROFRFRAGAGABGBGBRGDGRDGEGEOGFGUFGGGGYGHGHAGIGIB\
    GLGRLGMGMBGNGINGPGLPGQGNQGRGRCGSSGSGTGTMGUGUMGWGNBGYGUYHKHKGHMHMDHNHNDHRHRVHTHTIHUHUNIC---IDIDNIEIRLILISR\
    IMIMNININDIOIOTIQIRQIRIRNISISLITITAJEJEYJMJAMJOJORJPJPNKEKENKGKGZKHKHMKIKIRKMCOMKNKNAKPPRKKRKORKWKWTKYCYM\
    KZKAZLALAOLBLBNLCLCALILIELKLKALRLBRLSLSOLTLTULULUXLVLVALYLBYMAMARMCMCOMDMDAMEMNEMFMAFMGMDGMHMHLMKMKDMLMLI\
    MMMMRMNMNGMOMACMPMNPMQMTQMRMRTMSMSRMTMLTMUMUSMVMDVMWMWIMXMEXMYMYSMZMOZNANAMNCNCLNENERNFNFKNGNGANINICNLNLD\
    NONORNPNPLNRNRUNUNIUNZNZLOMOMNPAPANPEPERPFPYFPGPNGPHPHLPKPAKPLPOLPMSPMPNPCNPRPRIPSPSEPTPRTPWPLWPYPRYQAQAT\
    REREUROROURSSRBRURUSRWRWASASAUSBSLBSCSYCSDSDNSESWESGSGPSHSHNSISVNSJSJMSKSVKSLSLESMSMRSNSENSOSOMSRSURSSSSD\
    STSTPSVSLVSXSXMSYSYRSZSWZTCTCATDTCDTFATFTGTGOTHTHATJTJKTKTKLTLTLSTMTKMTNTUNTOTONTRTURTTTTOTVTUVTWTWNTZTZA\
    UAUKRUGUGAUMUMIUSUSAUYURYUZUZBVAVATVCVCTVEVENVGVGBVIVIRVNVNMVUVUTWFWLFWSWSMXKXKXYEYEMYTMYTZAZAFZMZMBZWZWE";

/// The alpha-2 code that `code` stands for: either form, either case, blanks around it ignored.
pub fn alpha2(code: &str) -> Option<&'static str> {
    let (codes, _) = CODES.as_chunks::<5>();
    let upper = |byte: &u8| byte.to_ascii_uppercase();
    let found = match code.trim().as_bytes() {
        [a, b] => {
            let wanted = [upper(a), upper(b)];
            codes.binary_search_by(|entry| entry[..2].cmp(&wanted)).ok().map(|at| &codes[at])
        }
        [a, b, c] => {
            let wanted = [upper(a), upper(b), upper(c)];
            codes.iter().find(|entry| entry[2..] == wanted && wanted.iter().all(u8::is_ascii_uppercase))
        }
        _ => None,
    };
    found.and_then(|entry| std::str::from_utf8(&entry[..2]).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_either_case_give_alpha_2() {
        for (code, expected) in [
            ("AD", Some("AD")),
            ("zw", Some("ZW")),
            ("TUR", Some("TR")),
            ("cyp", Some("CY")),
            (" GB ", Some("GB")),
            ("IC", Some("IC")),
            ("XKX", Some("XK")),
            ("---", None),
            ("XX", None),
            ("UK", None),
            ("Europe+", None),
            ("ÄÖ", None),
            ("", None),
        ] {
            assert_eq!(alpha2(code), expected, "{code:?}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_whole() {
        let (codes, rest) = CODES.as_chunks::<5>();
        assert!(rest.is_empty() && codes.is_sorted_by(|a, b| a[..2] < b[..2]));
        assert_eq!(codes.len(), 249 + 3);
    }
}
