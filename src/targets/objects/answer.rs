//! What a server said to one request.
//!
//! The crate that signs and sends keeps of a refusal only its kind. So this stands between it and the network: it
//! writes down status, code and `Retry-After` for the caller, who put a [`Heard`] into the request.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};

use super::Trouble;

/// An error of S3 has some hundred bytes; a proxy's page may have more, and is of no use.
const BODY_MAX: usize = 64 << 10;
const MESSAGE_MAX: usize = 200;
/// A pause is at most this long: a typing error of theirs must not stop us for a year.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
const CREDENTIALS: &str = "check objects.access_key and objects.secret_key (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)";

/// The place in a request where its answer is left.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<OnceLock<Answer>>);

impl Heard {
    /// What went wrong. An error without an answer is about one that was no success of S3.
    pub fn answer_or(&self, error: &object_store::Error) -> Answer {
        self.0.get().cloned().unwrap_or_else(|| Answer::Nothing(root_cause(error)))
    }
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// None at all, one that broke off, or one that S3 would not give.
    Nothing(String),
    Refused {
        status: u16,
        /// `NoSuchBucket`; empty where there is no body, such as to every HEAD.
        code: String,
        message: String,
        retry_after: Option<Duration>,
    },
}

impl Answer {
    pub fn status(&self) -> Option<u16> {
        match self {
            Answer::Nothing(_) => None,
            Answer::Refused { status, .. } => Some(*status),
        }
    }

    /// What it means for the file and for the store. `mask` blots out secrets in what the server wrote.
    pub fn trouble(&self, request: &str, mask: impl Fn(&str) -> String) -> Trouble {
        let (status, code, message, retry_after) = match self {
            Answer::Nothing(cause) => return Trouble::Store(format!("{request}: no usable answer: {cause}")),
            Answer::Refused { status, code, message, retry_after } => {
                (*status, code.as_str(), message.as_str(), *retry_after)
            }
        };
        let mut reason = format!("{request}: {status}");
        // Masked before it is cut: half a secret is not known for one.
        for (before, part) in [(" ", code), (": ", message)].into_iter().filter(|(_, part)| !part.is_empty()) {
            reason.push_str(before);
            reason.extend(mask(part).chars().take(MESSAGE_MAX));
        }
        let mend = |advice: &str| Trouble::Store(format!("{reason}; {advice}"));
        match (status, code) {
            (_, "SlowDown" | "TooManyRequests") | (429, _) => Trouble::Busy { reason, after: retry_after },
            (408, _) | (_, "RequestTimeout" | "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch") => {
                Trouble::Line(reason)
            }
            // Somebody puts the same file at this moment.
            (_, "ConditionalRequestConflict" | "OperationAborted") => Trouble::Busy { reason, after: None },
            (_, "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull") | (507, _) => {
                mend("make room, or raise the quota of the bucket")
            }
            (_, "RequestTimeTooSkewed") => mend("set this machine's clock"),
            (_, "NoSuchBucket") | (404, _) => mend("make the bucket, or correct objects.url"),
            (_, "AuthorizationHeaderMalformed" | "InvalidRegionName" | "PermanentRedirect" | "IllegalLocation")
            | (300..=399, _) => mend("correct objects.region (AWS_REGION) or objects.endpoint"),
            (_, "AccessDenied" | "AllAccessDisabled") => {
                mend("let the key write to this bucket, or give another (AWS_ACCESS_KEY_ID)")
            }
            (401 | 403, _) | (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken") => {
                mend(CREDENTIALS)
            }
            (500.., _) => Trouble::Store(reason),
            _ => Trouble::Object(reason),
        }
    }
}

/// Sends with a client of ours and listens to what comes back.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    pub client: reqwest::Client,
}

impl HttpConnector for Listening {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Listening {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let heard = request.extensions().get::<Heard>().cloned().unwrap_or_default();
        let tell = |answer| {
            // One request, one answer: the crate is told not to retry.
            let _ = heard.0.set(answer);
        };
        let response = match HttpService::call(&self.client, request).await {
            Ok(response) => response,
            Err(error) => {
                tell(Answer::Nothing(root_cause(&error)));
                return Err(error);
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let mut text = Vec::new();
        let mut chunks = body.bytes_stream();
        while let Some(Ok(chunk)) = chunks.next().await {
            text.extend_from_slice(&chunk);
            if text.len() > BODY_MAX {
                break;
            }
        }
        let text = String::from_utf8_lossy(&text);
        let after = parts.headers.get("retry-after").and_then(|value| value.to_str().ok());
        tell(Answer::Refused {
            status: parts.status.as_u16(),
            code: element(&text, "Code").filter(|code| is_word(code)).unwrap_or_default(),
            message: element(&text, "Message").unwrap_or_default(),
            // S3 and R2 send seconds.
            retry_after: after.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs).map(pause),
        });
        Ok(HttpResponse::from_parts(parts, Bytes::new().into()))
    }
}

fn pause(said: Duration) -> Duration {
    said.min(PAUSE_MAX)
}

/// The text of the first element of this name, on one line.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once('<')?;
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    Some(plain.collect::<String>().trim().to_owned())
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
}

/// The last of a chain of errors, which is the one that says what happened.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(status: u16, code: &str) -> Trouble {
        let retry_after = Some(Duration::from_secs(7));
        let message = "hunter2 is wrong".to_owned();
        Answer::Refused { status, code: code.to_owned(), message, retry_after }
            .trouble("PUT a.png", |text| text.replace("hunter2", "***"))
    }

    #[test]
    fn what_an_operator_mends_is_said() {
        for (status, code, says) in [
            (403, "SignatureDoesNotMatch", "objects.secret_key"),
            (403, "InvalidAccessKeyId", "objects.access_key"),
            (403, "NotSignedUp", "objects.access_key"),
            (401, "", "objects.access_key"),
            (403, "AccessDenied", "let the key write"),
            (403, "RequestTimeTooSkewed", "clock"),
            (403, "QuotaExceeded", "quota"),
            (507, "", "make room"),
            (404, "NoSuchBucket", "make the bucket"),
            (400, "InvalidRegionName", "objects.region"),
            (301, "PermanentRedirect", "objects.endpoint"),
            (307, "", "objects.endpoint"),
        ] {
            let Trouble::Store(reason) = trouble(status, code) else { panic!("{status} {code}") };
            let space = if code.is_empty() { "" } else { " " };
            let begins = format!("PUT a.png: {status}{space}{code}: *** is wrong; ");
            assert!(reason.starts_with(&begins) && reason.contains(says), "{reason}");
        }
    }

    #[test]
    fn a_busy_store_a_broken_one_and_a_file_it_does_not_take_are_told_apart() {
        let after = Some(Duration::from_secs(7));
        for (status, code) in [(503, "SlowDown"), (429, ""), (400, "TooManyRequests")] {
            let Trouble::Busy { after: said, .. } = trouble(status, code) else { panic!("{status} {code}") };
            assert_eq!(said, after);
        }
        assert!(matches!(trouble(409, "ConditionalRequestConflict"), Trouble::Busy { after: None, .. }));
        for (status, code) in [(500, "InternalError"), (502, ""), (501, "NotImplemented"), (503, "ServiceUnavailable")]
        {
            assert!(matches!(trouble(status, code), Trouble::Store(_)), "{status} {code}");
        }
        for (status, code) in [(400, "EntityTooLarge"), (400, "KeyTooLongError"), (413, ""), (400, "InvalidArgument")] {
            assert!(matches!(trouble(status, code), Trouble::Object(_)), "{status} {code}");
        }
        for (status, code) in [(408, ""), (400, "RequestTimeout"), (400, "BadDigest")] {
            assert!(matches!(trouble(status, code), Trouble::Line(_)), "{status} {code}");
        }
    }

    #[test]
    fn a_message_is_masked_before_it_is_cut() {
        let message = format!("{}hunter2 and so on", "x".repeat(MESSAGE_MAX - 4));
        let answer = Answer::Refused { status: 500, code: String::new(), message, retry_after: None };
        let Trouble::Store(reason) = answer.trouble("PUT a", |text| text.replace("hunter2", "***")) else { panic!() };
        assert!(reason.ends_with("xxx*** ") && !reason.contains("hunt"), "{reason}");
    }

    #[test]
    fn of_an_error_only_code_and_message_are_read() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please\nreduce</Message>\
                   <StringToSign>AWS4</StringToSign></Error>";
        assert_eq!(element(xml, "Code").as_deref(), Some("SlowDown"));
        assert_eq!(element(xml, "Message").as_deref(), Some("Please reduce"));
        assert_eq!(element("<html>", "Code"), None);
        assert!(is_word("NoSuchBucket") && !is_word("a b"));
    }
}
