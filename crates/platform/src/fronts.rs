//! From the settings to what the router is told about fronts.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use domain::front::{PRESETS, Preset};
use domain::ip_network::IpNetwork;
use domain::secret::Secret;
use wire::routes::{FrontPolicy, FrontRoute, FrontSecret};
use wire::settings::{FrontSettings, RouterSettings};

pub(crate) fn policy(settings: &RouterSettings) -> Result<FrontPolicy> {
    let mut fronts = Vec::new();
    let described: BTreeSet<&str> = settings.front.iter().map(|front| front.name.as_str()).collect();
    for name in settings.fronts.iter().filter(|name| !described.contains(name.as_str())) {
        fronts.push(front(&FrontSettings { name: name.clone(), ..FrontSettings::default() })?);
    }
    for settings in &settings.front {
        fronts.push(front(settings).with_context(|| format!("router.front {:?}", settings.name))?);
    }
    if settings.only_fronts && fronts.is_empty() {
        bail!("router.only_fronts would refuse every request, because there is no front; name one in router.fronts");
    }
    Ok(FrontPolicy { fronts, only: settings.only_fronts, never: Vec::new() })
}

fn front(settings: &FrontSettings) -> Result<FrontRoute> {
    let preset = Preset::find(&settings.name);
    let networks = match preset {
        _ if !settings.networks.is_empty() => {
            settings.networks.iter().map(|text| text.parse()).collect::<Result<Vec<IpNetwork>, _>>()?
        }
        Some(preset) => preset.networks(),
        None => {
            let known = PRESETS.map(|preset| preset.name).join(", ");
            bail!("{:?} is no front that is known by name ({known}); describe it with `networks`", settings.name);
        }
    };
    for name in settings.client_header.iter().chain(&settings.secret_header) {
        router::check_header_name(name).with_context(|| format!("{name:?} cannot be the name of a header"))?;
    }
    let told = |preset: Preset| preset.client_header.map(str::to_owned);
    let proxy_protocol = settings.proxy_protocol.unwrap_or(preset.is_some_and(|preset| preset.proxy_protocol));
    let tls_ports = match (&settings.tls_ports, preset) {
        (Some(_), _) if !proxy_protocol => {
            bail!("tls_ports is for a front with proxy_protocol; others tell the scheme in X-Forwarded-Proto")
        }
        (Some(ports), _) => ports.clone(),
        (None, Some(preset)) if proxy_protocol => preset.tls_ports.to_vec(),
        (None, _) => Vec::new(),
    };
    Ok(FrontRoute {
        name: settings.name.clone(),
        networks: networks.iter().map(ToString::to_string).collect(),
        client_header: settings.client_header.clone().or_else(|| preset.and_then(told)),
        proxy_protocol,
        tls_ports,
        secret: secret(settings)?,
        client_ca: client_ca(settings)?,
    })
}

fn client_ca(settings: &FrontSettings) -> Result<Option<String>> {
    let Some(path) = &settings.client_ca_file else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    router::check_authorities(&text).with_context(|| format!("{} holds no certificates to trust", path.display()))?;
    Ok(Some(text))
}

fn secret(settings: &FrontSettings) -> Result<Option<FrontSecret>> {
    let (header, path) = match (&settings.secret_header, &settings.secret_file) {
        (None, None) => return Ok(None),
        (Some(header), Some(path)) => (header.clone(), path),
        _one => bail!("secret_header and secret_file belong together"),
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = text.trim();
    if value.len() < SECRET_BYTES_MIN {
        bail!("{} must hold at least {SECRET_BYTES_MIN} characters", path.display());
    }
    Ok(Some(FrontSecret { header, value: Secret::new(value.to_owned()) }))
}

/// Short enough to type, too long to guess.
const SECRET_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<FrontPolicy> {
        policy(&toml::from_str::<wire::settings::Settings>(text).unwrap().router)
    }

    #[test]
    fn a_preset_needs_its_name_only_and_may_be_changed() {
        let policy = parsed("[router]\nfronts = [\"cloudflare\", \"nlb\"]\nonly_fronts = true\n").unwrap();
        assert_eq!(policy.fronts[0].client_header.as_deref(), Some("cf-connecting-ip"));
        assert!(policy.fronts[1].proxy_protocol && policy.only);
        let text = "[router]\nfronts = [\"nlb\"]\n[[router.front]]\nname = \"nlb\"\nnetworks = [\"10.1.0.0/16\"]\n";
        let policy = parsed(text).unwrap();
        assert_eq!(policy.fronts.len(), 1);
        assert_eq!((policy.fronts[0].networks[0].as_str(), policy.fronts[0].proxy_protocol), ("10.1.0.0/16", true));
        assert_eq!(policy.fronts[0].tls_ports, [443]);
        let text = "[[router.front]]\nname = \"nlb\"\ntls_ports = [8443]\n";
        assert_eq!(parsed(text).unwrap().fronts[0].tls_ports, [8443]);
    }

    #[test]
    fn a_secret_comes_from_its_file_and_does_not_show() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "correct horse battery\n").unwrap();
        let text =
            format!("[[router.front]]\nname = \"cloudflare\"\nsecret_header = \"x-front\"\nsecret_file = {path:?}\n");
        let policy = parsed(&text).unwrap();
        assert_eq!(policy.fronts[0].secret.as_ref().unwrap().value.expose(), "correct horse battery");
        assert!(!format!("{policy:?}").contains("horse"));
        std::fs::write(&path, "short\n").unwrap();
        assert!(format!("{:#}", parsed(&text).unwrap_err()).contains("at least 16"));
    }

    #[test]
    fn a_file_without_authorities_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let text = format!("[[router.front]]\nname = \"cloudflare\"\nclient_ca_file = {path:?}\n");
        assert!(format!("{:#}", parsed(&text).unwrap_err()).contains("cannot read"));
        for wrong in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, wrong).unwrap();
            let error = format!("{:#}", parsed(&text).unwrap_err());
            assert!(error.contains("holds no certificates to trust"), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expect) in [
            ("[router]\nfronts = [\"akamai\"]", "cloudflare, cloudfront, alb, nlb"),
            ("[router]\nonly_fronts = true", "there is no front"),
            ("[[router.front]]\nname = \"x\"\nnetworks = [\"10.0.0.0/99\"]", "10.0.0.0/99"),
            ("[[router.front]]\nname = \"nlb\"\nsecret_header = \"x\"", "belong together"),
            ("[[router.front]]\nname = \"alb\"\nsecret_header = \"x front\"", "\"x front\" cannot be the name"),
            ("[[router.front]]\nname = \"alb\"\nclient_header = \"\"", "cannot be the name"),
            ("[[router.front]]\nname = \"alb\"\ntls_ports = [443]", "proxy_protocol"),
        ] {
            assert!(format!("{:#}", parsed(text).unwrap_err()).contains(expect), "{text}");
        }
    }
}
