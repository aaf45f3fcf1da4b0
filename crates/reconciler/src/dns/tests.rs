//! Both providers against servers that answer as their documents say, and look at what they are asked.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use domain::secret::Secret;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::cloudflare::Cloudflare;
use super::route53::Route53;
use super::sigv4::{Signable, Signer};
use super::*;

/// A request as it came.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _value)| other == name).map_or("", |(_name, value)| value)
    }

    fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// Gives these answers, in this order, and then what it was asked.
struct StandIn {
    endpoint: String,
    thread: JoinHandle<Vec<Asked>>,
}

impl StandIn {
    fn answering(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut answers: VecDeque<(u16, String)> =
            answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            while !answers.is_empty() {
                let (stream, _peer) = listener.accept().unwrap();
                let mut stream = BufReader::new(stream);
                while let Some(request) = read(&mut stream) {
                    asked.push(request);
                    let (status, body) = answers.pop_front().expect("no more is asked than was expected");
                    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
                    stream.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
                    if answers.is_empty() {
                        break;
                    }
                }
            }
            asked
        });
        Self { endpoint, thread }
    }

    fn asked(self) -> Vec<Asked> {
        self.thread.join().unwrap()
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked { method, target, headers, body: String::new() };
    let length: u64 = asked.header("content-length").parse().unwrap_or(0);
    stream.take(length).read_to_string(&mut asked.body).unwrap();
    Some(asked)
}

fn record() -> TxtRecord {
    TxtRecord { name: "_acme-challenge.example.com".to_owned(), value: "proof-1".to_owned() }
}

/// As the real one, but for whom it trusts.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn cloudflare(stand_in: &StandIn) -> Cloudflare {
    let token = Secret::new("token-1".to_owned());
    Cloudflare::new(agent(), Some(stand_in.endpoint.clone()), "example.com".to_owned(), token)
}

#[test]
fn cloudflare_is_asked_as_its_documents_say() {
    let stand_in = StandIn::answering(&[
        (200, r#"{"success":true,"errors":[],"result":[{"id":"zone-1","name":"example.com"}]}"#),
        (200, r#"{"success":true,"errors":[],"result":{"id":"record-1"}}"#),
        (200, r#"{"success":true,"errors":[],"result":{"id":"record-1"}}"#),
    ]);
    let mut provider = cloudflare(&stand_in);
    provider.put(&record()).unwrap();
    provider.remove(&record()).unwrap();
    provider.remove(&record()).unwrap();
    let asked = stand_in.asked();
    let lines: Vec<String> = asked.iter().map(Asked::line).collect();
    assert_eq!(
        lines,
        [
            "GET /client/v4/zones?name=example.com",
            "POST /client/v4/zones/zone-1/dns_records",
            "DELETE /client/v4/zones/zone-1/dns_records/record-1",
        ]
    );
    assert!(asked.iter().all(|asked| asked.header("authorization") == "Bearer token-1"));
    let body: serde_json::Value = serde_json::from_str(&asked[1].body).unwrap();
    assert_eq!(asked[1].header("content-type"), "application/json");
    assert_eq!((body["type"].as_str(), body["name"].as_str()), (Some("TXT"), Some("_acme-challenge.example.com")));
    assert_eq!((body["content"].as_str(), body["ttl"].as_u64()), (Some("\"proof-1\""), Some(60)));
}

#[test]
fn what_cloudflare_refuses_is_told_without_the_token() {
    let refused = r#"{"success":false,"errors":[{"code":9109,"message":"Invalid access token"}],"result":null}"#;
    let stand_in = StandIn::answering(&[(403, refused)]);
    let error = cloudflare(&stand_in).put(&record()).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("Cloudflare refused (403): Invalid access token; check the credentials"), "{text}");
    assert!(!text.contains("token-1"));

    let stand_in = StandIn::answering(&[(200, r#"{"success":true,"errors":[],"result":[]}"#)]);
    let error = cloudflare(&stand_in).put(&record()).unwrap_err();
    assert_eq!(error.to_string(), "Cloudflare has no zone example.com that these credentials may change");
}

/// With a zone of the same name for the inside of a network, and what comes next in the list.
const ZONE: &str = "<?xml version=\"1.0\"?><ListHostedZonesByNameResponse><HostedZones><HostedZone>\
    <Id>/hostedzone/Z0</Id><Name>example.com.</Name><Config><PrivateZone>true</PrivateZone></Config></HostedZone>\
    <HostedZone><Id>/hostedzone/Z1</Id><Name>example.com.</Name><Config><PrivateZone>false</PrivateZone></Config>\
    </HostedZone><HostedZone><Id>/hostedzone/Z2</Id><Name>example.net.</Name></HostedZone></HostedZones>\
    </ListHostedZonesByNameResponse>";

fn change(status: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><ChangeInfo><Id>/change/C1</Id><Status>{status}</Status>\
         <SubmittedAt>2026-11-26T00:00:00Z</SubmittedAt></ChangeInfo>"
    )
}

fn signer() -> Signer {
    let secret_access_key = Secret::new("secret-1".to_owned());
    Signer { access_key_id: "key-1".to_owned(), secret_access_key, region: "us-east-1", service: "route53" }
}

fn route53(stand_in: &StandIn) -> Route53 {
    let Signer { access_key_id, secret_access_key, .. } = signer();
    Route53::new(agent(), Some(stand_in.endpoint.clone()), "example.com".to_owned(), access_key_id, secret_access_key)
}

/// Signs what came, as Amazon does, and compares.
fn assert_signed(asked: &Asked) {
    let date = asked.header("x-amz-date");
    let time: DateTime = format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..15]).parse().unwrap();
    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    let headers = [("host", asked.header("host"))];
    let (method, payload) = (asked.method.as_str(), asked.body.as_bytes());
    let signed = signer()
        .sign(Signable { method, path, query, headers: &headers, payload }, Offset::UTC.to_timestamp(time).unwrap());
    assert_eq!(asked.header("authorization"), signed.authorization, "{}", asked.line());
}

#[test]
fn route_53_is_asked_as_its_documents_say() {
    let (pending, in_sync) = (change("PENDING"), change("INSYNC"));
    let stand_in = StandIn::answering(&[(200, ZONE), (200, &pending), (200, &in_sync), (200, &pending)]);
    let mut provider = route53(&stand_in);
    provider.put(&record()).unwrap();
    provider.wait().unwrap();
    provider.remove(&record()).unwrap();
    let asked = stand_in.asked();
    let lines: Vec<String> = asked.iter().map(Asked::line).collect();
    assert_eq!(
        lines,
        [
            "GET /2013-04-01/hostedzonesbyname?dnsname=example.com.&maxitems=100",
            "POST /2013-04-01/hostedzone/Z1/rrset/",
            "GET /2013-04-01/change/C1",
            "POST /2013-04-01/hostedzone/Z1/rrset/",
        ]
    );
    asked.iter().for_each(assert_signed);
    for (asked, action) in [(&asked[1], "UPSERT"), (&asked[3], "DELETE")] {
        let expect = format!(
            "<Change><Action>{action}</Action><ResourceRecordSet><Name>_acme-challenge.example.com.</Name>\
             <Type>TXT</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>\"proof-1\"</Value>"
        );
        assert!(asked.body.contains(&expect), "{}", asked.body);
        assert!(
            asked
                .body
                .contains("<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">")
        );
    }
}

#[test]
fn what_route_53_refuses_is_told_without_the_key() {
    let refused =
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>";
    let stand_in = StandIn::answering(&[(403, refused)]);
    let error = route53(&stand_in).put(&record()).unwrap_err();
    assert!(error.to_string().starts_with("Route 53 refused (403): not authorized"), "{error}");
    assert!(!format!("{error:?}").contains("secret-1"));

    // The list begins at the next name where there is no zone of that one.
    let other = ZONE.replace("example.com.", "example.net.");
    let stand_in = StandIn::answering(&[(200, &other)]);
    let error = route53(&stand_in).put(&record()).unwrap_err();
    assert_eq!(error.to_string(), "Route 53 has no zone example.com that these credentials may change");
}
