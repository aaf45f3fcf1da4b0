//! One order: from an account to a certificate that is kept.

use std::sync::Arc;
use std::time::Duration;

use certificate::Fault;
use domain::acme::{ChallengeKind, Outcome, Refusal, RefusalKind};
use domain::display_chain::display_chain;
use domain::dns::{DnsZone, challenge_name, zone_of};
use domain::hostname::Hostname;
use domain::id::{AppId, DomainId};
use domain::secret::Secret;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier, NewAccount, NewOrder,
    OrderStatus, RetryPolicy,
};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use store::acme::OrderNumber;
use store::managed_certificate::IssuedCertificate;
use store::{Store, StoreError};
use thiserror::Error;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};
use wire::routes::{ChallengeAnswer, ChallengeRoute};

use super::answer::{Answer, DnsAnswer};
use super::board::ChallengeBoard;
use super::http_client::AcmeHttpClient;
use super::{AcmeConfig, STATUS_ISSUED, is_failure, status_after, tls_alpn};
use crate::dns::{DnsError, TxtRecord};
use crate::https::{self, TrustError};
use crate::log::PlatformLog;
use crate::router_link::RouterView;

/// The whole of it, the wait for others' records included. Authorities look within seconds; some take a minute or two
/// to issue.
const ORDER_TIMEOUT: Duration = Duration::from_secs(900);
/// How long an authority may take to look, or to issue.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_secs(120));

#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) config: AcmeConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) log: PlatformLog,
    pub(crate) board: ChallengeBoard,
    pub(crate) router: watch::Receiver<RouterView>,
    pub(crate) account: Arc<Mutex<()>>,
    pub(crate) dns: Arc<Mutex<()>>,
    /// The app, and its domain; `None` for one of the platform's own hosts.
    pub(crate) owner: Option<(AppId, DomainId)>,
    pub(crate) host: Hostname,
    /// Where the record of an app's host should lead.
    pub(crate) target: Option<String>,
    /// In a row, before this one.
    pub(crate) failures: usize,
    pub(crate) number: OrderNumber,
}

#[derive(Debug, Error)]
pub(crate) enum OrderError {
    #[error("the authority refused: {}", .0.detail)]
    Refused(Refusal),
    #[error("cannot talk to the authority")]
    Exchange(#[source] instant_acme::Error),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("the router does not answer the authority; is it running?")]
    Router,
    #[error(
        "a wildcard needs a DNS record, and nobody is set to make it: `berth certs:dns:add` names whoever holds the domain's \
         DNS"
    )]
    NoDns,
    #[error("cannot prove by DNS that the host is ours")]
    Dns(#[from] DnsError),
    #[error("the authority offers none of the ways that are set in acme.challenges")]
    NoWay,
    #[error("the authority did not finish in time")]
    TimedOut,
    #[error("the authority issued a certificate that cannot be used: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unusable(Vec<Fault>),
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
    #[error("the account cannot be read")]
    Account(#[source] serde_json::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<instant_acme::Error> for OrderError {
    fn from(error: instant_acme::Error) -> Self {
        match error {
            instant_acme::Error::Api(problem) => Self::Refused(refusal(&problem)),
            other => Self::Exchange(other),
        }
    }
}

impl Order {
    /// Runs to the end, and writes down what became of it.
    pub(crate) async fn run(mut self) {
        let result = match timeout(ORDER_TIMEOUT, self.order()).await {
            Ok(result) => result,
            Err(_elapsed) => Err(OrderError::TimedOut),
        };
        let recorded = match result {
            Ok(issued) => self.succeeded(issued).await,
            Err(error) => self.failed(error).await,
        };
        if let Err(error) = recorded {
            // The row stays as it is, and the next server ends it.
            error!(error = display_chain(&error), "cannot record what became of an order");
        }
    }

    async fn succeeded(&self, issued: IssuedCertificate) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let until = issued.valid_until;
        self.store.keep_managed_certificate(issued, now).await?;
        self.store.end_acme_order(self.number, Outcome::Issued).await?;
        info!(host = %self.host, %until, "A certificate was issued");
        let Some((app, domain)) = self.owner else {
            return self.store.forget_platform_certificate_failure(|host| host == self.host.as_str()).await;
        };
        self.store.acm_progress(domain, Some(STATUS_ISSUED.to_owned()), None, now).await?;
        self.log.api(app, &format!("Certificate for {} issued, good until {until}", self.host));
        Ok(())
    }

    async fn failed(&self, error: OrderError) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let (reason, outcome) = match &error {
            OrderError::Refused(refusal) => {
                let deferred = refusal.deferred_until(now).map(|until| Outcome::Deferred { until });
                (refusal.explain(self.host.as_str(), self.target.as_deref()), deferred.unwrap_or(Outcome::Failed))
            }
            other => (display_chain(other), Outcome::Failed),
        };
        warn!(host = %self.host, reason, "No certificate was issued");
        self.store.end_acme_order(self.number, outcome).await?;
        let Some((app, domain)) = self.owner else {
            return self.store.platform_certificate_failed(&self.host, &reason).await;
        };
        self.log.api(app, &format!("No certificate for {} yet: {reason}", self.host));
        let status = status_after(self.failures + usize::from(is_failure(outcome)));
        self.store.acm_progress(domain, Some(status.to_owned()), Some(reason), now).await
    }

    async fn order(&mut self) -> Result<IssuedCertificate, OrderError> {
        // What cannot be proved anyway is not asked for.
        let way = self.way()?;
        let account = self.account().await?;
        let identifiers = [Identifier::Dns(self.host.to_string())];
        let mut order = match account.new_order(&NewOrder::new(&identifiers)).await {
            Err(instant_acme::Error::Api(problem)) if is_no_account(&problem) => {
                // The authority has forgotten us; the next attempt registers again.
                self.store.forget_acme_account(self.config.directory.clone()).await?;
                return Err(OrderError::Refused(refusal(&problem)));
            }
            order => order?,
        };
        let mut answers = Vec::new();
        let shown = self.answer_challenges(&way, &mut order, &mut answers).await;
        let ready = match &shown {
            Ok(()) => order.poll_ready(&POLL).await,
            Err(_not_shown) => Ok(OrderStatus::Pending),
        };
        for answer in answers {
            answer.take_down().await;
        }
        shown?;
        match ready {
            Ok(OrderStatus::Ready) => {}
            Err(timed_out @ instant_acme::Error::Timeout(_)) => return Err(timed_out.into()),
            other => return Err(why_invalid(&mut order, other.err()).await),
        }
        let key = KeyPair::generate().map_err(OrderError::Key)?;
        let mut params = CertificateParams::new(vec![self.host.to_string()]).map_err(OrderError::Key)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(OrderError::Key)?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&POLL).await?;
        let checked = certificate::check(&chain, &key.serialize_pem(), Timestamp::now());
        let checked = checked.map_err(OrderError::Unusable)?;
        Ok(IssuedCertificate {
            hostname: self.host.clone(),
            directory: self.config.directory.clone(),
            certificate_chain: checked.chain,
            key: checked.key,
            valid_from: checked.facts.not_before,
            valid_until: checked.facts.not_after,
        })
    }

    /// The account that is stored, or a new one.
    async fn account(&self) -> Result<Account, OrderError> {
        let _one_at_a_time = self.account.lock().await;
        let AcmeConfig { directory, contact, ca_file, .. } = &self.config;
        let builder = Account::builder_with_http(Box::new(AcmeHttpClient(https::agent(ca_file)?)));
        if let Some(kept) = self.store.acme_account(directory)? {
            let credentials: AccountCredentials = serde_json::from_str(kept.expose()).map_err(OrderError::Account)?;
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact = contact.as_ref().map(|address| format!("mailto:{address}"));
        let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contacts,
            // The manager does not run without.
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = builder.create(&new, directory.clone(), None).await?;
        let text = serde_json::to_string(&credentials).map_err(OrderError::Account)?;
        self.store.keep_acme_account(directory.clone(), Secret::new(text), Timestamp::now()).await?;
        info!(directory, "Registered with a certificate authority");
        Ok(account)
    }

    /// Puts the answers up and tells the authority to look. They must stay until it has looked, and be taken down
    /// whatever becomes of this.
    async fn answer_challenges(
        &mut self,
        way: &Way,
        order: &mut instant_acme::Order,
        answers: &mut Vec<Answer>,
    ) -> Result<(), OrderError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = authorization.challenge(way.challenge_type()).ok_or(OrderError::NoWay)?;
            answers.push(self.answer(way, &challenge).await?);
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// How to show that the host is ours: by DNS if we may, or by each other way in turn, because what stands in front
    /// of us may let only one through.
    fn way(&self) -> Result<Way, OrderError> {
        if let Some(zone) = zone_of(&self.store.dns_zones()?, &self.host) {
            return Ok(Way::Dns(zone.clone()));
        }
        if self.host.is_wildcard() {
            return Err(OrderError::NoDns);
        }
        let kind = domain::acme::challenge_for(self.failures, &self.config.challenges).ok_or(OrderError::NoWay)?;
        Ok(Way::Here(kind))
    }

    async fn answer(&mut self, way: &Way, challenge: &ChallengeHandle<'_>) -> Result<Answer, OrderError> {
        let proof = challenge.key_authorization();
        let answer = match way {
            Way::Dns(zone) => {
                let turn = Arc::clone(&self.dns).lock_owned().await;
                let record = TxtRecord { name: challenge_name(&self.host), value: proof.dns_value() };
                let put = DnsAnswer::put(zone.clone(), self.config.system_ca_file.clone(), record, turn);
                return Ok(Answer::InDns(put.await?));
            }
            Way::Here(ChallengeKind::Http01) => {
                ChallengeAnswer::Http { token: challenge.token.clone(), key_authorization: proof.as_str().to_owned() }
            }
            Way::Here(ChallengeKind::TlsAlpn01) => {
                tls_alpn::answer(self.host.as_str(), proof.digest().as_ref()).map_err(OrderError::Key)?
            }
        };
        let route = ChallengeRoute { host: self.host.to_string(), answer };
        let put_up = self.board.put(route, &mut self.router).await;
        put_up.map(Answer::OnBoard).ok_or(OrderError::Router)
    }
}

enum Way {
    Here(ChallengeKind),
    Dns(DnsZone),
}

impl Way {
    const fn challenge_type(&self) -> ChallengeType {
        match self {
            Self::Here(ChallengeKind::Http01) => ChallengeType::Http01,
            Self::Here(ChallengeKind::TlsAlpn01) => ChallengeType::TlsAlpn01,
            Self::Dns(_) => ChallengeType::Dns01,
        }
    }
}

/// What the authority found when it looked stands in the challenges.
async fn why_invalid(order: &mut instant_acme::Order, error: Option<instant_acme::Error>) -> OrderError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Ok(state) = authorization.refresh().await
            && let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref())
        {
            return OrderError::Refused(refusal(problem));
        }
    }
    let unknown = Refusal { kind: RefusalKind::Authority, detail: "the order is invalid".to_owned() };
    error.map_or(OrderError::Refused(unknown), OrderError::from)
}

fn refusal(problem: &instant_acme::Problem) -> Refusal {
    // The parts are about hosts, and an order has one.
    let part = problem.subproblems.first();
    let kind = part.and_then(|part| part.r#type.as_deref()).or(problem.r#type.as_deref()).unwrap_or_default();
    let detail = part.and_then(|part| part.detail.as_ref()).or(problem.detail.as_ref());
    Refusal { kind: RefusalKind::parse(kind), detail: detail.cloned().unwrap_or_default() }
}

fn is_no_account(problem: &instant_acme::Problem) -> bool {
    problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":accountDoesNotExist"))
}
