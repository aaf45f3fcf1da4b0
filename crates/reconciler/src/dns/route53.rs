//! Amazon Route 53's API of 2013-04-01: <https://docs.aws.amazon.com/Route53/latest/APIReference/>.

use std::thread::sleep;
use std::time::{Duration, Instant};

use domain::secret::Secret;
use jiff::Timestamp;

use super::sigv4::{Signable, Signer};
use super::{DnsError, DnsProvider, TxtRecord};

const PROVIDER: &str = "Route 53";
const ENDPOINT: &str = "https://route53.amazonaws.com";
const TTL_SECONDS: u32 = 60;
/// Zones of one name, of which one is public.
const ZONES_MAX: u32 = 100;
/// Usual are 60 s until a change is on all its servers.
const IN_SYNC_TIMEOUT: Duration = Duration::from_secs(180);
const IN_SYNC_POLL: Duration = Duration::from_secs(3);
const BODY_BYTES_MAX: u64 = 1024 * 1024;

pub(super) struct Route53 {
    agent: ureq::Agent,
    endpoint: String,
    zone: String,
    signer: Signer,
    zone_id: Option<String>,
    /// The last change, until it is everywhere.
    change_id: Option<String>,
}

impl Route53 {
    pub(super) fn new(
        agent: ureq::Agent,
        endpoint: Option<String>,
        zone: String,
        access_key_id: String,
        secret_access_key: Secret<String>,
    ) -> Self {
        // The service has one region.
        let signer = Signer { access_key_id, secret_access_key, region: "us-east-1", service: "route53" };
        let endpoint = endpoint.unwrap_or_else(|| ENDPOINT.to_owned());
        Self { agent, endpoint, zone, signer, zone_id: None, change_id: None }
    }

    fn zone_id(&mut self) -> Result<String, DnsError> {
        if let Some(id) = &self.zone_id {
            return Ok(id.clone());
        }
        let found =
            self.ask("GET", "hostedzonesbyname", &format!("dnsname={}.&maxitems={ZONES_MAX}", self.zone), "")?;
        // The list begins at the name that was asked for, whether or not there is such a zone. One for the inside of a
        // network may have the same name; certificate authorities do not see that one.
        let name = format!("{}.", self.zone);
        let is_ours =
            |zone: &&str| element(zone, "Name") == Some(name.as_str()) && element(zone, "PrivateZone") != Some("true");
        let zone = found.split("<HostedZone>").skip(1).find(is_ours);
        let id = zone.and_then(|zone| element(zone, "Id")?.strip_prefix("/hostedzone/"));
        let id = id.ok_or_else(|| DnsError::NoZone { provider: PROVIDER, zone: self.zone.clone() })?.to_owned();
        Ok(self.zone_id.insert(id).clone())
    }

    fn change(&mut self, action: &str, record: &TxtRecord) -> Result<(), DnsError> {
        let zone = self.zone_id()?;
        let TxtRecord { name, value } = record;
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch>\
             <Changes><Change><Action>{action}</Action><ResourceRecordSet><Name>{name}.</Name><Type>TXT</Type>\
             <TTL>{TTL_SECONDS}</TTL><ResourceRecords><ResourceRecord><Value>\"{value}\"</Value></ResourceRecord>\
             </ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
        );
        let answer = self.ask("POST", &format!("hostedzone/{zone}/rrset/"), "", &body)?;
        let id = element(&answer, "Id").and_then(|id| id.strip_prefix("/change/"));
        self.change_id = Some(id.ok_or(DnsError::Answer { provider: PROVIDER })?.to_owned());
        Ok(())
    }

    fn ask(&self, method: &str, path: &str, query: &str, body: &str) -> Result<String, DnsError> {
        let path = format!("/2013-04-01/{path}");
        let host = self.endpoint.split_once("://").map_or(self.endpoint.as_str(), |(_scheme, host)| host);
        let headers = [("host", host)];
        let request = Signable { method, path: &path, query, headers: &headers, payload: body.as_bytes() };
        let signed = self.signer.sign(request, Timestamp::now());
        let separator = if query.is_empty() { "" } else { "?" };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}{separator}{query}", self.endpoint))
            .header("x-amz-date", signed.amz_date)
            .header("authorization", signed.authorization);
        let sent = match method {
            "GET" => request.body(()).map(|request| self.agent.run(request)),
            _ => request
                .header("content-type", "application/xml")
                .body(body.to_owned())
                .map(|request| self.agent.run(request)),
        };
        let answered = sent.map_err(|_url| DnsError::Answer { provider: PROVIDER })?;
        let response = answered.map_err(|error| DnsError::Reach { provider: PROVIDER, source: Box::new(error) })?;
        let (parts, body) = response.into_parts();
        let text = body.into_with_config().limit(BODY_BYTES_MAX).read_to_string().unwrap_or_default();
        if parts.status.is_success() {
            return Ok(text);
        }
        let message = element(&text, "Message").unwrap_or("it said nothing more").to_owned();
        Err(DnsError::Refused { provider: PROVIDER, status: parts.status.as_u16(), message })
    }
}

impl DnsProvider for Route53 {
    fn put(&mut self, record: &TxtRecord) -> Result<(), DnsError> {
        self.change("UPSERT", record)
    }

    fn wait(&mut self) -> Result<(), DnsError> {
        let Some(change) = self.change_id.take() else { return Ok(()) };
        let deadline = Instant::now() + IN_SYNC_TIMEOUT;
        while element(&self.ask("GET", &format!("change/{change}"), "", "")?, "Status") != Some("INSYNC") {
            if Instant::now() > deadline {
                return Err(DnsError::NotVisible(IN_SYNC_TIMEOUT));
            }
            sleep(IN_SYNC_POLL);
        }
        Ok(())
    }

    fn remove(&mut self, record: &TxtRecord) -> Result<(), DnsError> {
        match self.change("DELETE", record) {
            // It says so of a record that is not there.
            Err(DnsError::Refused { status: 400, message, .. }) if message.contains("not found") => Ok(()),
            other => other,
        }
    }
}

/// The text of the first element of this name: all that these answers need of XML.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_before, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _after)| text)
}
