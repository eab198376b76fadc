//! What the environment says of the hub.

use crate::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Where the hub is, who asks, and where files are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Address of the hub, `http://` or `https://`, without a final `/`.
    pub endpoint: String,
    /// What opens private and gated models.
    pub token: Option<String>,
    /// The cache that Hugging Face tools share.
    pub cache: PathBuf,
    /// Use the cache only.
    pub offline: bool,
}

impl Settings {
    /// Reads `HF_ENDPOINT` (default `https://huggingface.co`), `HF_TOKEN`, `HF_HUB_OFFLINE` (`1`, `on`, `yes` or `true`), and for the cache
    /// the first that is set of `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `$HF_HOME/hub`, `$XDG_CACHE_HOME/huggingface/hub` and
    /// `$HOME/.cache/huggingface/hub`.
    ///
    /// # Errors
    /// A variable that is no address, no token; none of those of the cache is set.
    pub fn from_environment() -> Result<Self, Error> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// The same with another token, which `option` gave.
    ///
    /// # Errors
    /// Characters that no token has; the message does not show them.
    pub fn with_token(self, token: &str, option: &str) -> Result<Self, Error> {
        let token = checked(token.trim().to_owned(), option)?;
        Ok(Self { token: Some(token).filter(|token| !token.is_empty()), ..self })
    }

    /// As [`Settings::from_environment`], from `variable` in the place of the environment. An empty variable counts as not set.
    ///
    /// # Errors
    /// As [`Settings::from_environment`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| match set(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim().to_owned())),
            Some(Err(_)) => Err(Error::Refused(format!("{name}: is not UTF-8"))),
        };
        let path = |name: &str, below: &str| set(name).map(|value| PathBuf::from(value).join(below));
        let endpoint = text("HF_ENDPOINT")?.unwrap_or_else(|| "https://huggingface.co".to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if !host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_address)) {
            return Err(Error::Refused(format!(
                "HF_ENDPOINT: {:?} is not the address of a hub; expected https://host, without user, query or fragment",
                endpoint.chars().take(100).collect::<String>()
            )));
        }
        let token = text("HF_TOKEN")?.map(|token| checked(token, "HF_TOKEN")).transpose()?;
        let offline = text("HF_HUB_OFFLINE")?.unwrap_or_default();
        let cache = path("HF_HUB_CACHE", "")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE", ""))
            .or_else(|| path("HF_HOME", "hub"))
            .or_else(|| path("XDG_CACHE_HOME", "huggingface/hub"))
            .or_else(|| path("HOME", ".cache/huggingface/hub"))
            .ok_or_else(|| Error::Refused("no cache directory: set HF_HUB_CACHE, HF_HOME or HOME".to_owned()))?;
        Ok(Self {
            endpoint,
            token: token.filter(|token| !token.is_empty()),
            cache,
            offline: ["1", "on", "yes", "true"].iter().any(|yes| offline.eq_ignore_ascii_case(yes)),
        })
    }
}

fn checked(token: String, from: &str) -> Result<String, Error> {
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(token);
    }
    Err(Error::Refused(format!("{from}: has characters that no token has")))
}

fn is_address(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_~:/[]".contains(&byte)
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use crate::Error;
    use std::path::Path;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::from_variables(|name| variables.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into()))
    }

    #[test]
    fn the_first_cache_wins() {
        let mut variables = vec![("HOME", "/h")];
        for (name, value, cache) in [
            ("HOME", "/h", "/h/.cache/huggingface/hub"),
            ("XDG_CACHE_HOME", "/x", "/x/huggingface/hub"),
            ("HF_HOME", "/f", "/f/hub"),
            ("HUGGINGFACE_HUB_CACHE", "/o", "/o"),
            ("HF_HUB_CACHE", "/c", "/c"),
            ("HF_HUB_CACHE", "", "/o"),
        ] {
            variables.retain(|pair| pair.0 != name);
            variables.push((name, value));
            assert_eq!(read(&variables).unwrap().cache, Path::new(cache), "{name}");
        }
        assert!(read(&[]).unwrap_err().to_string().contains("HF_HUB_CACHE"));
    }

    #[test]
    fn address_token_and_offline() {
        let plain = read(&[("HOME", "/h")]).unwrap();
        assert_eq!((&*plain.endpoint, plain.token.as_deref(), plain.offline), ("https://huggingface.co", None, false));
        let all = [
            ("HOME", "/h"),
            ("HF_ENDPOINT", "http://[::1]:80/hub/"),
            ("HF_TOKEN", " hf_secret\n"),
            ("HF_HUB_OFFLINE", "True"),
        ];
        let all = read(&all).unwrap();
        assert_eq!(
            (&*all.endpoint, all.token.as_deref(), all.offline),
            ("http://[::1]:80/hub", Some("hf_secret"), true)
        );
        assert!(!format!("{all:?}").contains("secret"));
        for endpoint in [
            "huggingface.co",
            "ftp://x",
            "https://",
            "https://user:secret@x",
            "https://x?y",
            "https://x y",
            "file:///x",
        ] {
            let error = read(&[("HOME", "/h"), ("HF_ENDPOINT", endpoint)]).unwrap_err().to_string();
            assert!(error.contains("HF_ENDPOINT"), "{endpoint}: {error}");
        }
        let error = read(&[("HOME", "/h"), ("HF_TOKEN", "hf_a\r\nHost: x")]).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("hf_a"), "{error}");
    }
}
