//! `berth-custom`: a service that runs elsewhere, known by its address.
//!
//! Every option is a value: `--url` becomes `<ATTACHMENT>_URL`, `--access-key` `<ATTACHMENT>_ACCESS_KEY`. What is new
//! against a config var is that several apps have it, and a change reaches all of them.

use crate::add_on::attachment_name::Family;
use crate::add_on::catalogue::{Plan, Provider, Provision, ProvisionError, Service};
use crate::add_on::{Changes, Options, VALUES_BYTES_MAX, Values};
use crate::name::ConfigKey;

static SERVICE: Service = Service {
    name: "berth-custom",
    human_name: "A service of your own",
    stem: "custom",
    plans: &[Plan {
        name: "external",
        human_name: "External",
        description: "An address of something that runs elsewhere, for one app or several",
    }],
    about: "berth-custom gives apps the address of a service that runs elsewhere.

    heroku addons:create berth-custom -a shop --as DATABASE -- --url=postgres://user:password@host/db
    heroku addons:attach NAME -a shop-worker
    berth addons:update NAME --url -

Every option after -- is a value: --url becomes DATABASE_URL, --ca-file DATABASE_CA_FILE.
A change of a value reaches every app that the add-on is attached to. There is no dashboard to open.
",
};

#[derive(Debug)]
pub struct Custom;

impl Provider for Custom {
    fn service(&self) -> &'static Service {
        &SERVICE
    }

    fn provision(&self, _plan: &Plan, options: &Options) -> Result<Provision, ProvisionError> {
        if options.is_empty() {
            return Err(ProvisionError(
                "Say what to attach: `heroku addons:create berth-custom --as DATABASE -- --url=postgres://…`. \
                 `berth addons:create berth-custom --url -` reads it from the standard input."
                    .to_owned(),
            ));
        }
        let changes = options.iter().map(|(option, value)| (option.clone(), Some(value.clone()))).collect();
        self.update(&Values::new(), &changes).map(Provision::Done)
    }

    fn family(&self, values: &Values) -> Family {
        let url = values.iter().find(|(suffix, _value)| suffix.as_str() == "URL");
        let scheme = url.and_then(|(_suffix, value)| value.expose().split_once("://")).map(|(scheme, _rest)| scheme);
        match scheme {
            Some("postgres" | "postgresql") => Family::POSTGRES,
            Some("redis" | "rediss" | "valkey" | "valkeys") => Family::REDIS,
            Some(_) | None => Family::CUSTOM,
        }
    }

    fn update(&self, current: &Values, changes: &Changes) -> Result<Values, ProvisionError> {
        let mut values = current.clone();
        for (option, value) in changes {
            let refuse = |why: &str| Err(ProvisionError(format!("--{option} {why}.")));
            let suffix = option.replace('-', "_").to_ascii_uppercase();
            // What is typed wrong may be a value: it is not repeated.
            let Ok(suffix) = ConfigKey::parse(&suffix) else {
                let text = "Options consist of letters, digits, dashes and underscores: `--url=…`.";
                return Err(ProvisionError(text.to_owned()));
            };
            if suffix.as_str().len() > 63 {
                return refuse("is too long for a name; 63 characters are the limit");
            }
            let Some(value) = value else {
                values.remove(&suffix);
                continue;
            };
            let text = value.expose();
            if text.is_empty() || text == "true" && suffix.as_str() == "URL" {
                return refuse("needs a value");
            }
            if text.contains('\0') {
                return refuse("contains a NUL byte, which no environment can hold");
            }
            if suffix.as_str() == "URL" && !is_url(text) {
                return refuse("must be a URL, as postgres://user:password@host/name");
            }
            values.insert(suffix, value.clone());
        }
        if values.is_empty() {
            return Err(ProvisionError("An add-on needs one value at least: destroy it instead.".to_owned()));
        }
        let size: usize = values.iter().map(|(suffix, value)| suffix.as_str().len() + value.expose().len()).sum();
        if size > VALUES_BYTES_MAX {
            let text = format!("All values together would be {size} bytes; the limit is {VALUES_BYTES_MAX}.");
            return Err(ProvisionError(text));
        }
        Ok(values)
    }

    fn is_destroyed_at_once(&self) -> bool {
        true
    }
}

/// A scheme and something behind it (RFC 3986, 3.1), without blanks.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(in_scheme)
        && !rest.is_empty()
        && !rest.chars().any(|c| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Secret::new((*value).to_owned()))).collect()
    }

    fn provision(pairs: &[(&str, &str)]) -> Result<Values, String> {
        match Custom.provision(&SERVICE.plans[0], &options(pairs)) {
            Ok(Provision::Done(values)) => Ok(values),
            Ok(Provision::Later { .. }) => Err("later".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_option_is_a_value() {
        let values = provision(&[("url", "s3://bucket"), ("access-key", "k"), ("Region", "eu")]).unwrap();
        assert_eq!(values.keys().map(ConfigKey::as_str).collect::<Vec<_>>(), ["ACCESS_KEY", "REGION", "URL"]);
    }

    #[test]
    fn attachments_are_named_after_the_scheme() {
        for (url, family) in [
            ("postgres://u:p@h/d", Family::POSTGRES),
            ("rediss://:p@h:6379", Family::REDIS),
            ("https://h", Family::CUSTOM),
        ] {
            assert_eq!(Custom.family(&provision(&[("url", url)]).unwrap()), family, "{url}");
        }
        assert_eq!(Custom.family(&provision(&[("dsn", "postgres://h")]).unwrap()), Family::CUSTOM);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let before = provision(&[("url", "https://a"), ("key", "1")]).unwrap();
        let change = |name: &str, value: Option<&str>| {
            let value = value.map(|value| Secret::new(value.to_owned()));
            Custom.update(&before, &[(name.to_owned(), value)].into())
        };
        let after = change("url", Some("https://b")).unwrap();
        let of = |suffix: &str| after[&ConfigKey::parse(suffix).unwrap()].expose().clone();
        assert_eq!((of("URL"), of("KEY")), ("https://b".to_owned(), "1".to_owned()));
        let after = change("key", None).unwrap();
        assert_eq!(after.keys().map(ConfigKey::as_str).collect::<Vec<_>>(), ["URL"]);
        let nothing = [("url".to_owned(), None), ("key".to_owned(), None)].into();
        assert!(Custom.update(&before, &nothing).unwrap_err().0.contains("destroy it instead"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        let large = "x".repeat(VALUES_BYTES_MAX);
        for (pairs, expect) in [
            (&[][..], "Say what to attach"),
            (&[("url", "true")], "--url needs a value"),
            (&[("url", "hunter2 example")], "must be a URL"),
            (&[("url", "postgres://u:hunter2@h/d d")], "must be a URL"),
            (&[("key", "hunter2\0")], "NUL byte"),
            (&[("hunter2!", "x")], "Options consist of"),
            (&[("key", &large)], "the limit is 16384"),
        ] {
            let error = provision(pairs).unwrap_err();
            assert!(error.contains(expect) && !error.contains("hunter2"), "{error}");
        }
    }
}
