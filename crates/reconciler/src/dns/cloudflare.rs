//! Cloudflare's API, version 4: <https://developers.cloudflare.com/api/resources/dns/>.

use std::thread::sleep;
use std::time::Duration;

use domain::secret::Secret;
use serde_json::{Value, json};

use super::{DnsError, DnsProvider, TxtRecord};

const PROVIDER: &str = "Cloudflare";
const ENDPOINT: &str = "https://api.cloudflare.com";
/// The shortest that is allowed.
const TTL_SECONDS: u32 = 60;
/// There is no way to ask; it takes a few seconds.
const PROPAGATION: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: u64 = 1024 * 1024;

pub(super) struct Cloudflare {
    agent: ureq::Agent,
    endpoint: String,
    zone: String,
    token: Secret<String>,
    /// Of the zone and of the record, when they are known.
    zone_id: Option<String>,
    record_id: Option<String>,
}

impl Cloudflare {
    pub(super) fn new(agent: ureq::Agent, endpoint: Option<String>, zone: String, token: Secret<String>) -> Self {
        let endpoint = endpoint.unwrap_or_else(|| ENDPOINT.to_owned());
        Self { agent, endpoint, zone, token, zone_id: None, record_id: None }
    }

    fn zone_id(&mut self) -> Result<String, DnsError> {
        if let Some(id) = &self.zone_id {
            return Ok(id.clone());
        }
        let found = self.ask("GET", &format!("zones?name={}", self.zone), None)?;
        let missing = || DnsError::NoZone { provider: PROVIDER, zone: self.zone.clone() };
        let id = found[0]["id"].as_str().ok_or_else(missing)?.to_owned();
        Ok(self.zone_id.insert(id).clone())
    }

    /// Gives what stands in `result`.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, DnsError> {
        let url = format!("{}/client/v4/{path}", self.endpoint);
        let request = http::Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Bearer {}", self.token.expose()))
            .header("content-type", "application/json");
        let sent = match body {
            Some(body) => request.body(body.to_string()).map(|request| self.agent.run(request)),
            None => request.body(()).map(|request| self.agent.run(request)),
        };
        let answered = sent.map_err(|_url| DnsError::Answer { provider: PROVIDER })?;
        let response = answered.map_err(|error| DnsError::Reach { provider: PROVIDER, source: Box::new(error) })?;
        let (parts, body) = response.into_parts();
        let text = body.into_with_config().limit(BODY_BYTES_MAX).read_to_string().unwrap_or_default();
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if !parts.status.is_success() || answer["success"] != true {
            let message = answer["errors"][0]["message"].as_str().unwrap_or("it said nothing more").to_owned();
            return Err(DnsError::Refused { provider: PROVIDER, status: parts.status.as_u16(), message });
        }
        Ok(answer["result"].take())
    }
}

impl DnsProvider for Cloudflare {
    fn put(&mut self, record: &TxtRecord) -> Result<(), DnsError> {
        let zone = self.zone_id()?;
        let body = json!({
            "type": "TXT",
            "name": record.name,
            // Cloudflare's documents ask for the quotation marks.
            "content": format!("\"{}\"", record.value),
            "ttl": TTL_SECONDS,
            "comment": "made by Berth for a certificate; may be deleted",
        });
        let made = self.ask("POST", &format!("zones/{zone}/dns_records"), Some(&body))?;
        let id = made["id"].as_str().ok_or(DnsError::Answer { provider: PROVIDER })?;
        self.record_id = Some(id.to_owned());
        Ok(())
    }

    fn wait(&mut self) -> Result<(), DnsError> {
        sleep(PROPAGATION);
        Ok(())
    }

    fn remove(&mut self, _record: &TxtRecord) -> Result<(), DnsError> {
        let zone = self.zone_id()?;
        let Some(id) = self.record_id.take() else { return Ok(()) };
        match self.ask("DELETE", &format!("zones/{zone}/dns_records/{id}"), None) {
            Err(DnsError::Refused { status: 404, .. }) => Ok(()),
            other => other.map(drop),
        }
    }
}
