//! `auth.aws-sigv4`: each request signed with its method, URL, headers, body and time (AWS Signature Version 4).

use std::time::{Duration, UNIX_EPOCH};

use ::aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use aws_credential_types::Credentials;
use reqwest::header::HeaderName;

use super::{Error, NAME, header};
use crate::{
    http::Request,
    model::Timestamp,
    settings::{
        Table,
        key::keys,
        secret::{SECRET, Secret},
    },
};

keys! {
    /// AWS Signature Version 4.
    mod aws_sigv4;
    /// The region.
    need REGION: String = "region", TEXT, "region = \"eu-central-1\"";
    /// The service, such as `"execute-api"`.
    need SERVICE: String = "service", TEXT, "service = \"execute-api\"";
    /// The access key, a string or a secret.
    need ACCESS_KEY: String = "access-key", super::NAME, "access-key = { env = \"AWS_ACCESS_KEY_ID\" }";
    /// The secret key, a secret.
    need SECRET_KEY: Secret = "secret-key", SECRET, "secret-key = { env = \"AWS_SECRET_ACCESS_KEY\" }";
    /// The token of a session, a secret.
    get SESSION_TOKEN: Secret = "session-token", SECRET;
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sigv4 {
    region: String,
    service: String,
    access_key: String,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
}

impl Sigv4 {
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let (region, service) = (table.need(&aws_sigv4::REGION), table.need(&aws_sigv4::SERVICE));
        let (access_key, secret_key) = (table.need(&aws_sigv4::ACCESS_KEY), table.need(&aws_sigv4::SECRET_KEY));
        let session_token = table.get(&aws_sigv4::SESSION_TOKEN);
        Some(Self {
            region: region?,
            service: service?,
            access_key: access_key?,
            secret_key: secret_key?,
            session_token,
        })
    }

    pub fn put(&self, request: &mut Request, now: Timestamp) -> Result<(), Error> {
        let wrong = |e: String| Error::Value(format!("the request cannot be signed for AWS: {e}"));
        let token = self.session_token.as_ref().map(|token| token.expose().to_owned());
        let credentials = Credentials::new(&self.access_key, self.secret_key.expose(), token, None, "bellpull").into();
        let mut settings = SigningSettings::default();
        // S3 is the exception: its paths are signed as they are, and its bodies' sums are sent.
        if self.service == "s3" {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let ms = u64::try_from(now.0).unwrap_or_default();
        let parameters = v4::SigningParams::builder()
            .identity(&credentials)
            .region(&self.region)
            .name(&self.service)
            .time(UNIX_EPOCH + Duration::from_millis(ms))
            .settings(settings)
            .build()
            .map_err(|e| wrong(e.to_string()))?
            .into();
        let headers: Vec<(&str, &str)> =
            request.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        let body = SignableBody::Bytes(request.body.as_deref().unwrap_or_default());
        let signable = SignableRequest::new(request.method.as_str(), request.url.as_str(), headers.into_iter(), body);
        let signed =
            sign(signable.map_err(|e| wrong(e.to_string()))?, &parameters).map_err(|e| wrong(e.to_string()))?;
        let (instructions, _) = signed.into_parts();
        for (name, value) in instructions.headers() {
            let name = name.parse::<HeaderName>().map_err(|e| wrong(e.to_string()))?;
            request.headers.insert(name, header(value.to_owned())?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{Method, header::HeaderMap};

    use super::*;

    /// AWS's own test suite for Signature Version 4: `get-vanilla` and `post-vanilla-query`.
    #[test]
    fn vectors_of_aws() {
        let auth = Sigv4 {
            region: "us-east-1".into(),
            service: "service".into(),
            access_key: "AKIDEXAMPLE".into(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            session_token: None,
        };
        let cases = [
            (
                Method::GET,
                "https://example.amazonaws.com/",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                Method::POST,
                "https://example.amazonaws.com/?Param1=value1",
                "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
            ),
        ];
        for (method, url, signature) in cases {
            let url = url.parse().expect("a URL");
            let mut request = Request { method, url, headers: HeaderMap::new(), body: None };
            // 2015-08-30T12:36:00Z
            auth.put(&mut request, Timestamp(1_440_938_160_000)).expect("signed");
            let value = request.headers.get("authorization").expect("a signature").to_str().expect("text");
            assert_eq!(
                value,
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature={signature}"
                )
            );
            assert_eq!(request.headers.get("x-amz-date").expect("a date"), "20150830T123600Z");
        }
    }
}
