use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn host(attempts: Vec<Attempt>) -> HostView {
    HostView { certificate: None, attempts, asked_again_at: None, jitter: Jitter::new(0) }
}

fn failed(seconds: i64) -> Attempt {
    Attempt { at: at(seconds), outcome: Outcome::Failed }
}

fn all(hosts: &[HostView]) -> Vec<Attempt> {
    hosts.iter().flat_map(|host| host.attempts.clone()).collect()
}

const DAY: i64 = 24 * 60 * 60;

#[test]
fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
    let validity = Validity { from: at(0), until: at(90 * DAY) };
    assert_eq!(validity.renewal_at(Jitter::new(0)), at(60 * DAY));
    assert_eq!(validity.renewal_at(Jitter::new(500)), at(60 * DAY - 90 * DAY / 40));
    let week = Validity { from: at(0), until: at(6 * DAY) };
    assert_eq!(week.renewal_at(Jitter::new(0)), at(4 * DAY));
    let view = HostView { certificate: Some(validity), ..host(Vec::new()) };
    assert_eq!(view.order_at(), Some(at(60 * DAY)));
    let nonsense = Validity { from: at(1), until: at(0) };
    assert_eq!(nonsense.renewal_at(Jitter::new(999)), at(1));
}

#[test]
fn failures_put_the_next_order_off_ever_longer_until_somebody_asks_again() {
    assert_eq!(host(vec![failed(0)]).order_at(), Some(at(60)));
    assert_eq!(host(vec![failed(0), failed(60)]).order_at(), Some(at(60 + 300)));
    let many = host((0..9).map(|day| failed(day * DAY)).collect());
    assert_eq!((many.failures(), many.order_at()), (9, Some(at(9 * DAY))));
    let mut asked = host(vec![failed(0), failed(60), failed(360)]);
    asked.asked_again_at = Some(at(400));
    assert_eq!((asked.failures(), asked.order_at()), (0, Some(Timestamp::MIN)));
    let issued = Attempt { at: at(100), outcome: Outcome::Issued };
    assert_eq!(host(vec![failed(0), issued]).failures(), 0);
}

#[test]
fn an_authority_that_asks_to_wait_is_left_alone() {
    let deferred = Attempt { at: at(0), outcome: Outcome::Deferred { until: at(5_000) } };
    let mut view = host(vec![deferred]);
    view.asked_again_at = Some(at(10));
    assert_eq!(view.order_at(), Some(at(5_000)));
    assert_eq!(view.failures(), 0);
}

#[test]
fn hosts_without_a_certificate_come_first_and_few_orders_run_at_once() {
    let expiring = |days: i64| HostView {
        certificate: Some(Validity { from: at(-90 * DAY), until: at(days * DAY) }),
        ..host(Vec::new())
    };
    let under_way = host(vec![Attempt { at: at(0), outcome: Outcome::UnderWay }]);
    let hosts = [expiring(9), expiring(3), host(Vec::new()), under_way, expiring(80), expiring(5)];
    assert_eq!(due(&hosts, &all(&hosts), at(1)), [2, 1, 5]);
    let quiet = |hosts: &[HostView], orders: &[Attempt]| quiet_for(hosts, orders, at(0)).map(|time| time.as_secs());
    assert_eq!(quiet(&hosts[4..5], &[]), Some(2_016_000));
    assert_eq!(quiet(&hosts[3..4], &[]), None);
    // What is due and may not be ordered is not looked at each second.
    assert_eq!(quiet(&hosts, &[]), Some(0));
    let orders = |count, outcome| vec![Attempt { at: at(-10), outcome }; count];
    assert_eq!(quiet(&hosts, &orders(ORDERS_AT_ONCE, Outcome::UnderWay)), None);
    assert_eq!(quiet(&hosts, &orders(ORDERS_PER_THREE_HOURS, Outcome::Failed)), Some(3 * 3_600 - 10));
    assert_eq!(quiet(&hosts, &orders(ORDERS_PER_THREE_HOURS - 1, Outcome::Failed)), Some(0));
}

#[test]
fn each_way_is_tried_in_turn() {
    let ways = ["http-01", "tls-alpn-01"].map(|text| ChallengeKind::parse(text).unwrap());
    let tried: Vec<_> = (0..3).map(|failures| challenge_for(failures, &ways).unwrap()).collect();
    assert_eq!(tried, [ChallengeKind::Http01, ChallengeKind::TlsAlpn01, ChallengeKind::Http01]);
    assert_eq!((challenge_for(0, &[]), ChallengeKind::parse("dns-02")), (None, None));
}

#[test]
fn refusals_say_what_to_do() {
    let explain = |kind: &str, detail: &str| {
        let kind = RefusalKind::parse(&format!("urn:ietf:params:acme:error:{kind}"));
        Refusal { kind, detail: detail.to_owned() }.explain("www.example.com", Some("shop.paas.example"))
    };
    assert_eq!(
        explain("dns", "NXDOMAIN"),
        "the name www.example.com cannot be resolved: add a DNS record that leads it to shop.paas.example, then run \
         `heroku certs:auto:refresh` (it said: NXDOMAIN)"
    );
    let of_the_platform = Refusal { kind: RefusalKind::Dns, detail: String::new() }.explain("berth.paas.example", None);
    assert!(of_the_platform.ends_with("leads it to this machine; it is tried again by itself"), "{of_the_platform}");
    assert!(explain("unauthorized", "").starts_with("DNS does not point here"));
    assert!(explain("caa", "").contains("CAA"));
    assert!(explain("connection", "").contains("ports 80 and 443"));
    assert!(explain("rejectedIdentifier", "").contains("heroku certs:add"));
    assert!(explain("serverInternal", "").contains("asked again later"));
}

#[test]
fn a_rate_limit_is_kept_until_the_time_that_was_named() {
    let limited = |detail: &str| Refusal { kind: RefusalKind::RateLimited, detail: detail.to_owned() };
    let named = limited("too many certificates, retry after 2027-01-02 03:04:05 UTC: see https://ca.example");
    assert_eq!(named.deferred_until(at(0)), Some("2027-01-02T03:04:05Z".parse().unwrap()));
    for vague in ["too many", "retry after tomorrow, or the day after", "retry after 2001-01-01 00:00:00 UTC"] {
        assert_eq!(limited(vague).deferred_until(at(0)), Some(at(3 * 60 * 60)), "{vague}");
    }
    let other = Refusal { kind: RefusalKind::Dns, detail: String::new() };
    assert_eq!(other.deferred_until(at(0)), None);
}

/// What happens between two looks.
#[derive(Debug, Clone)]
struct Step {
    seconds: i64,
    /// Somebody runs `certs:auto:refresh` before the look.
    asks_again: bool,
    /// The certificate was lost: the domain was removed and added again, say.
    loses_certificate: bool,
    outcome: Outcome,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        Just(Outcome::Issued),
        Just(Outcome::Failed),
        Just(Outcome::Interrupted),
        Just(Outcome::Deferred { until: at(3_000) }),
    ];
    let step = (1_i64..4_000, any::<bool>(), any::<bool>(), outcome);
    let step = step.prop_map(|(seconds, asks_again, loses_certificate, outcome)| Step {
        seconds,
        asks_again,
        loses_certificate,
        outcome,
    });
    proptest::collection::vec(step, 1..300)
}

fn most_within(times: &[i64], span: i64) -> usize {
    times.iter().map(|end| times.iter().filter(|time| **time <= *end && end - *time < span).count()).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn no_host_is_ever_ordered_for_more_than_an_authority_allows(steps in steps()) {
        let mut views = vec![host(Vec::new()), host(Vec::new())];
        let mut orders = vec![(Vec::new(), Vec::new()); 2];
        let mut now = 0;
        for step in steps {
            now += step.seconds;
            for view in &mut views {
                view.asked_again_at = if step.asks_again { Some(at(now)) } else { view.asked_again_at };
                view.certificate = view.certificate.filter(|_validity| !step.loses_certificate);
            }
            for index in due(&views, &all(&views), at(now)) {
                orders[index].0.push(now);
                views[index].attempts.push(Attempt { at: at(now), outcome: step.outcome });
                if step.outcome == Outcome::Issued {
                    orders[index].1.push(now);
                    views[index].certificate = Some(Validity { from: at(now), until: at(now + 90 * DAY) });
                }
            }
        }
        for (ordered, issued) in orders {
            prop_assert!(most_within(&ordered, 60 * 60) <= HOST_ORDERS_PER_HOUR);
            prop_assert!(most_within(&ordered, 7 * DAY) <= HOST_ORDERS_PER_WEEK);
            prop_assert!(most_within(&issued, 7 * DAY) <= HOST_CERTIFICATES_PER_WEEK);
        }
    }

    #[test]
    fn whoever_fixes_the_cause_gets_a_certificate_within_a_day(failures in 0_usize..12, seconds in 60_i64..100_000) {
        let mut view = host(Vec::new());
        let mut now = 0;
        for _failure in 0..failures {
            let due = view.order_at().unwrap().max(at(now));
            now = due.as_second() - at(0).as_second();
            view.attempts.push(failed(now));
        }
        let next = view.order_at().unwrap();
        prop_assert!(next <= at(now + DAY), "{next} after {failures} failures");
        view.asked_again_at = Some(at(now + seconds));
        prop_assert!(view.order_at().unwrap() <= at(now + 60 * 60));
    }

    #[test]
    fn orders_of_all_hosts_together_are_limited(count in 1_usize..600, under_way in 0_usize..6) {
        let views: Vec<HostView> = (0..count)
            .map(|index| {
                let outcome = if index < under_way { Outcome::UnderWay } else { Outcome::Issued };
                let mut view = host(vec![Attempt { at: at(0), outcome }]);
                view.attempts.truncate(usize::from(index < 300));
                view
            })
            .collect();
        let free = ORDERS_AT_ONCE.saturating_sub(under_way.min(count));
        let chosen = due(&views, &all(&views), at(10_000)).len();
        prop_assert!(chosen <= free);
        prop_assert!(count.min(300) < ORDERS_PER_THREE_HOURS || chosen == 0);
    }
}
