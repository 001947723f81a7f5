//! The places that the sandbox sells data for: countries of ISO 3166-1, and eSIM Go's regions.
//!
//! Names and regions are spelled as eSIM Go spells them (Turkey lies in the Middle East). It is a table of its own and
//! not the service's, so that a mistake in one shows against the other.

#[derive(Debug, PartialEq, Eq)]
pub struct Country {
    /// ISO 3166-1 alpha-2.
    pub iso: &'static str,
    /// ISO 3166-1 alpha-3, which a few bundles show instead.
    pub alpha3: &'static str,
    pub name: &'static str,
    /// One of Africa, Asia, Europe, LATAM, Middle East, North America, Oceania; Global for a region only.
    pub region: &'static str,
}

/// A pseudo-country: it stands in `countries`, its name also as its `iso`, and what it covers is in `roamingEnabled`.
#[derive(Debug, PartialEq, Eq)]
pub struct Region {
    /// As in bundle names, `esim_1GB_7D_REUP_V2`.
    pub code: &'static str,
    pub name: &'static str,
    pub region: &'static str,
    /// Alpha-2 codes, separated by blanks.
    pub covers: &'static str,
}

impl Region {
    /// The countries it covers, in its own order.
    pub fn countries(&self) -> impl Iterator<Item = &'static Country> {
        self.covers.split(' ').filter_map(country)
    }
}

/// Finds a country by its alpha-2 code.
pub fn country(iso: &str) -> Option<&'static Country> {
    COUNTRIES.binary_search_by(|country| country.iso.cmp(iso)).ok().map(|at| &COUNTRIES[at])
}

const fn c(iso: &'static str, alpha3: &'static str, region: &'static str, name: &'static str) -> Country {
    Country { iso, alpha3, name, region }
}

const fn r(code: &'static str, name: &'static str, region: &'static str, covers: &'static str) -> Region {
    Region { code, name, region, covers }
}

const MIDDLE_EAST: &str = "Middle East";
const NORTH_AMERICA: &str = "North America";

/// Sorted by alpha-2 code.
pub const COUNTRIES: &[Country] = &[
    c("AD", "AND", "Europe", "Andorra"),
    c("AE", "ARE", MIDDLE_EAST, "United Arab Emirates"),
    c("AF", "AFG", "Asia", "Afghanistan"),
    c("AG", "ATG", "LATAM", "Antigua and Barbuda"),
    c("AI", "AIA", "LATAM", "Anguilla"),
    c("AL", "ALB", "Europe", "Albania"),
    c("AM", "ARM", "Asia", "Armenia"),
    c("AO", "AGO", "Africa", "Angola"),
    c("AR", "ARG", "LATAM", "Argentina"),
    c("AT", "AUT", "Europe", "Austria"),
    c("AU", "AUS", "Oceania", "Australia"),
    c("AW", "ABW", "LATAM", "Aruba"),
    c("AX", "ALA", "Europe", "Aland Islands"),
    c("AZ", "AZE", "Asia", "Azerbaijan"),
    c("BA", "BIH", "Europe", "Bosnia and Herzegovina"),
    c("BB", "BRB", "LATAM", "Barbados"),
    c("BD", "BGD", "Asia", "Bangladesh"),
    c("BE", "BEL", "Europe", "Belgium"),
    c("BF", "BFA", "Africa", "Burkina Faso"),
    c("BG", "BGR", "Europe", "Bulgaria"),
    c("BH", "BHR", MIDDLE_EAST, "Bahrain"),
    c("BI", "BDI", "Africa", "Burundi"),
    c("BJ", "BEN", "Africa", "Benin"),
    c("BM", "BMU", NORTH_AMERICA, "Bermuda"),
    c("BN", "BRN", "Asia", "Brunei Darussalam"),
    c("BO", "BOL", "LATAM", "Bolivia"),
    c("BQ", "BES", "LATAM", "Bonaire"),
    c("BR", "BRA", "LATAM", "Brazil"),
    c("BS", "BHS", "LATAM", "Bahamas"),
    c("BT", "BTN", "Asia", "Bhutan"),
    c("BW", "BWA", "Africa", "Botswana"),
    c("BY", "BLR", "Europe", "Belarus"),
    c("BZ", "BLZ", "LATAM", "Belize"),
    c("CA", "CAN", NORTH_AMERICA, "Canada"),
    c("CD", "COD", "Africa", "Congo, Democratic Republic of the"),
    c("CF", "CAF", "Africa", "Central African Republic"),
    c("CG", "COG", "Africa", "Congo"),
    c("CH", "CHE", "Europe", "Switzerland"),
    c("CI", "CIV", "Africa", "Côte d'Ivoire"),
    c("CL", "CHL", "LATAM", "Chile"),
    c("CM", "CMR", "Africa", "Cameroon"),
    c("CN", "CHN", "Asia", "China"),
    c("CO", "COL", "LATAM", "Colombia"),
    c("CR", "CRI", "LATAM", "Costa Rica"),
    c("CV", "CPV", "Africa", "Cape Verde"),
    c("CW", "CUW", "LATAM", "Curaçao"),
    c("CY", "CYP", "Europe", "Cyprus"),
    c("CZ", "CZE", "Europe", "Czech Republic"),
    c("DE", "DEU", "Europe", "Germany"),
    c("DJ", "DJI", "Africa", "Djibouti"),
    c("DK", "DNK", "Europe", "Denmark"),
    c("DM", "DMA", "LATAM", "Dominica"),
    c("DO", "DOM", "LATAM", "Dominican Republic"),
    c("DZ", "DZA", "Africa", "Algeria"),
    c("EC", "ECU", "LATAM", "Ecuador"),
    c("EE", "EST", "Europe", "Estonia"),
    c("EG", "EGY", "Africa", "Egypt"),
    c("ES", "ESP", "Europe", "Spain"),
    c("ET", "ETH", "Africa", "Ethiopia"),
    c("FI", "FIN", "Europe", "Finland"),
    c("FJ", "FJI", "Oceania", "Fiji"),
    c("FO", "FRO", "Europe", "Faroe Islands"),
    c("FR", "FRA", "Europe", "France"),
    c("GA", "GAB", "Africa", "Gabon"),
    c("GB", "GBR", "Europe", "United Kingdom"),
    c("GD", "GRD", "LATAM", "Grenada"),
    c("GE", "GEO", "Asia", "Georgia"),
    c("GF", "GUF", "LATAM", "French Guiana"),
    c("GG", "GGY", "Europe", "Guernsey"),
    c("GH", "GHA", "Africa", "Ghana"),
    c("GI", "GIB", "Europe", "Gibraltar"),
    c("GL", "GRL", "Europe", "Greenland"),
    c("GM", "GMB", "Africa", "Gambia"),
    c("GN", "GIN", "Africa", "Guinea"),
    c("GP", "GLP", "LATAM", "Guadeloupe"),
    c("GR", "GRC", "Europe", "Greece"),
    c("GT", "GTM", "LATAM", "Guatemala"),
    c("GU", "GUM", "Oceania", "Guam"),
    c("GW", "GNB", "Africa", "Guinea-Bissau"),
    c("GY", "GUY", "LATAM", "Guyana"),
    c("HK", "HKG", "Asia", "Hong Kong"),
    c("HN", "HND", "LATAM", "Honduras"),
    c("HR", "HRV", "Europe", "Croatia"),
    c("HT", "HTI", "LATAM", "Haiti"),
    c("HU", "HUN", "Europe", "Hungary"),
    c("ID", "IDN", "Asia", "Indonesia"),
    c("IE", "IRL", "Europe", "Ireland"),
    c("IL", "ISR", MIDDLE_EAST, "Israel"),
    c("IM", "IMN", "Europe", "Isle of Man"),
    c("IN", "IND", "Asia", "India"),
    c("IQ", "IRQ", MIDDLE_EAST, "Iraq"),
    c("IS", "ISL", "Europe", "Iceland"),
    c("IT", "ITA", "Europe", "Italy"),
    c("JE", "JEY", "Europe", "Jersey"),
    c("JM", "JAM", "LATAM", "Jamaica"),
    c("JO", "JOR", MIDDLE_EAST, "Jordan"),
    c("JP", "JPN", "Asia", "Japan"),
    c("KE", "KEN", "Africa", "Kenya"),
    c("KG", "KGZ", "Asia", "Kyrgyzstan"),
    c("KH", "KHM", "Asia", "Cambodia"),
    c("KN", "KNA", "LATAM", "Saint Kitts and Nevis"),
    c("KR", "KOR", "Asia", "South Korea"),
    c("KW", "KWT", MIDDLE_EAST, "Kuwait"),
    c("KY", "CYM", "LATAM", "Cayman Islands"),
    c("KZ", "KAZ", "Asia", "Kazakhstan"),
    c("LA", "LAO", "Asia", "Laos"),
    c("LB", "LBN", MIDDLE_EAST, "Lebanon"),
    c("LC", "LCA", "LATAM", "Saint Lucia"),
    c("LI", "LIE", "Europe", "Liechtenstein"),
    c("LK", "LKA", "Asia", "Sri Lanka"),
    c("LR", "LBR", "Africa", "Liberia"),
    c("LS", "LSO", "Africa", "Lesotho"),
    c("LT", "LTU", "Europe", "Lithuania"),
    c("LU", "LUX", "Europe", "Luxembourg"),
    c("LV", "LVA", "Europe", "Latvia"),
    c("LY", "LBY", "Africa", "Libya"),
    c("MA", "MAR", "Africa", "Morocco"),
    c("MC", "MCO", "Europe", "Monaco"),
    c("MD", "MDA", "Europe", "Moldova"),
    c("ME", "MNE", "Europe", "Montenegro"),
    c("MG", "MDG", "Africa", "Madagascar"),
    c("MK", "MKD", "Europe", "North Macedonia"),
    c("ML", "MLI", "Africa", "Mali"),
    c("MM", "MMR", "Asia", "Myanmar"),
    c("MN", "MNG", "Asia", "Mongolia"),
    c("MO", "MAC", "Asia", "Macao"),
    c("MQ", "MTQ", "LATAM", "Martinique"),
    c("MR", "MRT", "Africa", "Mauritania"),
    c("MS", "MSR", "LATAM", "Montserrat"),
    c("MT", "MLT", "Europe", "Malta"),
    c("MU", "MUS", "Africa", "Mauritius"),
    c("MV", "MDV", "Asia", "Maldives"),
    c("MW", "MWI", "Africa", "Malawi"),
    c("MX", "MEX", NORTH_AMERICA, "Mexico"),
    c("MY", "MYS", "Asia", "Malaysia"),
    c("MZ", "MOZ", "Africa", "Mozambique"),
    c("NA", "NAM", "Africa", "Namibia"),
    c("NE", "NER", "Africa", "Niger"),
    c("NG", "NGA", "Africa", "Nigeria"),
    c("NI", "NIC", "LATAM", "Nicaragua"),
    c("NL", "NLD", "Europe", "Netherlands"),
    c("NO", "NOR", "Europe", "Norway"),
    c("NP", "NPL", "Asia", "Nepal"),
    c("NR", "NRU", "Oceania", "Nauru"),
    c("NZ", "NZL", "Oceania", "New Zealand"),
    c("OM", "OMN", MIDDLE_EAST, "Oman"),
    c("PA", "PAN", "LATAM", "Panama"),
    c("PE", "PER", "LATAM", "Peru"),
    c("PF", "PYF", "Oceania", "French Polynesia"),
    c("PG", "PNG", "Oceania", "Papua New Guinea"),
    c("PH", "PHL", "Asia", "Philippines"),
    c("PK", "PAK", "Asia", "Pakistan"),
    c("PL", "POL", "Europe", "Poland"),
    c("PR", "PRI", "LATAM", "Puerto Rico"),
    c("PS", "PSE", MIDDLE_EAST, "Palestine"),
    c("PT", "PRT", "Europe", "Portugal"),
    c("PY", "PRY", "LATAM", "Paraguay"),
    c("QA", "QAT", MIDDLE_EAST, "Qatar"),
    c("RE", "REU", "Africa", "Réunion"),
    c("RO", "ROU", "Europe", "Romania"),
    c("RS", "SRB", "Europe", "Serbia"),
    c("RU", "RUS", "Europe", "Russian Federation"),
    c("RW", "RWA", "Africa", "Rwanda"),
    c("SA", "SAU", MIDDLE_EAST, "Saudi Arabia"),
    c("SC", "SYC", "Africa", "Seychelles"),
    c("SD", "SDN", "Africa", "Sudan"),
    c("SE", "SWE", "Europe", "Sweden"),
    c("SG", "SGP", "Asia", "Singapore"),
    c("SI", "SVN", "Europe", "Slovenia"),
    c("SK", "SVK", "Europe", "Slovakia"),
    c("SL", "SLE", "Africa", "Sierra Leone"),
    c("SN", "SEN", "Africa", "Senegal"),
    c("SR", "SUR", "LATAM", "Suriname"),
    c("SV", "SLV", "LATAM", "El Salvador"),
    c("SZ", "SWZ", "Africa", "Eswatini"),
    c("TC", "TCA", "LATAM", "Turks and Caicos Islands"),
    c("TD", "TCD", "Africa", "Chad"),
    c("TG", "TGO", "Africa", "Togo"),
    c("TH", "THA", "Asia", "Thailand"),
    c("TJ", "TJK", "Asia", "Tajikistan"),
    c("TN", "TUN", "Africa", "Tunisia"),
    c("TO", "TON", "Oceania", "Tonga"),
    c("TR", "TUR", MIDDLE_EAST, "Turkey"),
    c("TT", "TTO", "LATAM", "Trinidad and Tobago"),
    c("TW", "TWN", "Asia", "Taiwan"),
    c("TZ", "TZA", "Africa", "Tanzania"),
    c("UA", "UKR", "Europe", "Ukraine"),
    c("UG", "UGA", "Africa", "Uganda"),
    c("US", "USA", NORTH_AMERICA, "United States"),
    c("UY", "URY", "LATAM", "Uruguay"),
    c("UZ", "UZB", "Asia", "Uzbekistan"),
    c("VC", "VCT", "LATAM", "Saint Vincent and the Grenadines"),
    c("VE", "VEN", "LATAM", "Venezuela"),
    c("VG", "VGB", "LATAM", "Virgin Islands, British"),
    c("VN", "VNM", "Asia", "Vietnam"),
    c("VU", "VUT", "Oceania", "Vanuatu"),
    c("WS", "WSM", "Oceania", "Samoa"),
    c("ZA", "ZAF", "Africa", "South Africa"),
    c("ZM", "ZMB", "Africa", "Zambia"),
];

/// Codes and coverage as in eSIM Go's published rate sheets.
pub const REGIONS: &[Region] = &[
    r("RAF", "Africa", "Africa", "EG MA TZ UG TN ZA ZM MG NG KE MU RE"),
    r("RAS", "Asia", "Asia", "AU HK ID KR MO MY PK SG LK TW TH UZ VN NZ"),
    r("RBK", "Balkans", "Europe", "AL BA BG GR HR MK ME RO RS SI MD"),
    r("RCA", "Caribbean", "LATAM", "AW AI AG BB BM BQ KY CW DM GD GY HT JM MS KN LC VC TT TC VG SR DO MQ"),
    r("RCE", "CENAM", "LATAM", "CR SV GT HN MX NI PA"),
    r("RCI", "CIS", "Asia", "AM KZ KG MD RU UA GE"),
    r(
        "REUP",
        "Europe+",
        "Europe",
        "AT DK IE IT SE FR BG CY EE FI GR HU LV LT NL NO PL RO SK ES GB TR DE MT CH BE HR CZ LI LU PT SI IS",
    ),
    r(
        "REUL",
        "Europe Lite",
        "Europe",
        "AT DK IE IT SE FR BG CY EE FI GR HU LV LT NL NO PL RO SK ES DE MT CH BE HR CZ LI LU PT SI IS MD",
    ),
    r(
        "RGB",
        "Global",
        "Global",
        "AT DK IE IT SE IM FR BG CY EE FI GR HU LV LT NL NO PL RO SK ES GB TR DE MT CH BE HR CZ LI LU PT SI \
         IS UA JE SG MO HK IL AX ID VN RU AE AU TH TW LK MY PK UZ EG NZ AL KR CA KZ MD MK MX GG JO OM GI MA \
         BR CL RS JP ME GU US TZ UG CR EC NI IN AR SV PE UY CN PA RE TN BA ZA ZM MG NG KE AD IQ QA SC MU CO \
         GT CM GY SA PY BO KW",
    ),
    r("RLA", "Americas", "LATAM", "AR BR CL CO CR EC SV PE UY GF MX"),
    r("RME", "Middle East & Africa", "Middle East", "EG IL JO MA OM TR AE KW"),
    r("RMENA", "Middle East and North Africa", "Middle East", "AE BH EG IL MA SA TN QA JO KW"),
    r("RNA", "North America", "North America", "CA MX US"),
    r("ROC", "Oceania", "Oceania", "AU NZ"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_sorted_well_formed_and_used_once() {
        assert!(COUNTRIES.windows(2).all(|pair| pair[0].iso < pair[1].iso));
        assert!(COUNTRIES.len() >= 190);
        let mut alpha3 = HashSet::new();
        for country in COUNTRIES {
            assert!(country.iso.len() == 2 && country.iso.bytes().all(|b| b.is_ascii_uppercase()), "{country:?}");
            assert!(country.alpha3.len() == 3 && alpha3.insert(country.alpha3), "{country:?}");
        }
    }

    #[test]
    fn a_region_covers_countries_of_the_table_only() {
        for region in REGIONS {
            assert_eq!(region.countries().count(), region.covers.split(' ').count(), "{}", region.name);
        }
    }
}
