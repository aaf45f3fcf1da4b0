//! Protected stages: who may bring code to them, and when.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use thiserror::Error;

/// Windows of one stage.
pub const WINDOWS_MAX: usize = 20;

/// A time of the week in which code may come: `MON-FRI 09:00-17:00`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Counted from Monday, 0.
    first: i8,
    last: i8,
    from: Time,
    /// Exclusive; midnight stands for the end of the day.
    until: Time,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no deploy window; write days and hours, for example \"MON-FRI 09:00-17:00\"")]
pub struct WindowError(pub String);

const DAYS: [&str; 7] = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];

impl Window {
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let read = || {
            let (days, hours) = text.trim().split_once(' ')?;
            let (first, last) = days.split_once('-').unwrap_or((days, days));
            let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
            let (first, last) = (i8::try_from(day(first)?).ok()?, i8::try_from(day(last)?).ok()?);
            let (from, until) = hours.trim().split_once('-')?;
            let (from, until) = (time(from)?, if until == "24:00" { Time::midnight() } else { time(until)? });
            let well_ordered = first <= last && (until == Time::midnight() || from < until);
            well_ordered.then_some(Self { first, last, from, until })
        };
        read().ok_or_else(|| WindowError(text.chars().take(80).collect()))
    }

    fn contains(&self, at: &Zoned) -> bool {
        let day = at.weekday().to_monday_zero_offset();
        let time = at.time();
        let before_end = self.until == Time::midnight() || time < self.until;
        (self.first..=self.last).contains(&day) && time >= self.from && before_end
    }
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub by: String,
    pub reason: String,
}

/// How a stage is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// E-mail addresses; empty for everybody.
    pub deployers: Vec<String>,
    /// Empty for any time.
    pub windows: Vec<Window>,
    pub lock: Option<Lock>,
}

/// Why code may not come now.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum Denied {
    #[error("it is locked by {by}: {reason}")]
    Locked { by: String, reason: String },
    #[error("only {0} may deploy to it")]
    NotADeployer(String),
    #[error("it is outside of its deploy windows; the next one begins {}", .0.as_ref().map_or_else(|| "never".to_owned(), |at| at.strftime("%A %H:%M %Z").to_string()))]
    Closed(Option<Zoned>),
}

impl Protection {
    /// Says whether somebody may bring code now. A lock counts for everybody, also for those who may deploy.
    pub fn permit(&self, email: &str, now: Timestamp, zone: &TimeZone) -> Result<(), Denied> {
        if let Some(lock) = &self.lock {
            return Err(Denied::Locked { by: lock.by.clone(), reason: lock.reason.clone() });
        }
        let named = self.deployers.iter().any(|deployer| deployer.eq_ignore_ascii_case(email));
        if !self.deployers.is_empty() && !named {
            return Err(Denied::NotADeployer(self.deployers.join(", ")));
        }
        let local = now.to_zoned(zone.clone());
        if !self.windows.is_empty() && !self.windows.iter().any(|window| window.contains(&local)) {
            return Err(Denied::Closed(self.next_opening(&local)));
        }
        Ok(())
    }

    fn next_opening(&self, local: &Zoned) -> Option<Zoned> {
        let begins = |days: i64| {
            let date = local.date().checked_add(jiff::Span::new().days(days)).ok()?;
            let of_day = |window: &&Window| {
                (window.first..=window.last).contains(&Weekday::to_monday_zero_offset(date.weekday()))
            };
            let opening = |window: &Window| date.to_datetime(window.from).to_zoned(local.time_zone().clone()).ok();
            let openings = self.windows.iter().filter(of_day).filter_map(opening);
            openings.filter(|opening| opening > local).min()
        };
        (0..=7).find_map(begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protection(windows: &[&str]) -> Protection {
        Protection {
            deployers: Vec::new(),
            windows: windows.iter().map(|text| Window::parse(text).unwrap()).collect(),
            lock: None,
        }
    }

    fn permit(protection: &Protection, email: &str, at: &str) -> Result<(), String> {
        let zone = TimeZone::get("Europe/Zurich").unwrap();
        protection.permit(email, at.parse().unwrap(), &zone).map_err(|denied| denied.to_string())
    }

    #[test]
    fn a_window_is_a_time_of_the_week_in_its_zone() {
        let office = protection(&["MON-FRI 09:00-17:00", "sat 22:00-24:00"]);
        // A Friday in November: Zurich is an hour ahead of UTC.
        assert_eq!(permit(&office, "a", "2026-11-27T08:00:00Z"), Ok(()));
        assert_eq!(permit(&office, "a", "2026-11-27T15:59:59Z"), Ok(()));
        let closed = "it is outside of its deploy windows; the next one begins";
        assert_eq!(permit(&office, "a", "2026-11-27T07:59:59Z"), Err(format!("{closed} Friday 09:00 CET")));
        assert_eq!(permit(&office, "a", "2026-11-27T16:00:00Z"), Err(format!("{closed} Saturday 22:00 CET")));
        assert_eq!(permit(&office, "a", "2026-11-28T22:59:00Z"), Ok(()));
        assert_eq!(permit(&office, "a", "2026-11-28T23:00:00Z"), Err(format!("{closed} Monday 09:00 CET")));
    }

    #[test]
    fn a_lock_counts_for_everybody_and_deployers_are_named() {
        let mut some = Protection { deployers: vec!["Ada@example.com".to_owned()], ..protection(&[]) };
        assert_eq!(permit(&some, "ada@example.com", "2026-11-27T08:00:00Z"), Ok(()));
        let refused = permit(&some, "bob@example.com", "2026-11-27T08:00:00Z");
        assert_eq!(refused, Err("only Ada@example.com may deploy to it".to_owned()));
        some.lock = Some(Lock { by: "eve".to_owned(), reason: "audit".to_owned() });
        let locked = permit(&some, "ada@example.com", "2026-11-27T08:00:00Z");
        assert_eq!(locked, Err("it is locked by eve: audit".to_owned()));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for wrong in ["", "MON", "MON 9-17", "MON 09:00", "FRI-MON 09:00-17:00", "MON 17:00-09:00", "XXX 09:00-10:00"] {
            assert_eq!(Window::parse(wrong), Err(WindowError(wrong.to_owned())), "{wrong}");
        }
    }
}
