//! Which app a command is about: `--app`, `--remote`, `BERTH_APP`, or the git remote that points to this server.

use thiserror::Error;

use crate::server_url::ServerUrl;

/// The name of the remote that `berth create` and `berth git:remote` make.
pub(crate) const REMOTE_NAME: &str = "berth";

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AppSelectionError {
    #[error("no app given; name one with --app NAME, or run this where `berth git:remote -a NAME` was run")]
    None,
    #[error("several git remotes point to this server ({}); choose with --remote NAME or --app NAME", .0.join(", "))]
    Several(Vec<String>),
    #[error("there is no git remote {0:?} here; `git remote -v` lists them")]
    NoSuchRemote(String),
    #[error("the git remote {0:?} does not point to an app; choose with --app NAME")]
    Foreign(String),
    #[error("{0:?} is not the name of an app: small letters, digits and dashes")]
    Name(String),
}

/// What the user said, in the order in which it counts.
#[derive(Debug, Default)]
pub(crate) struct Wish<'a> {
    pub(crate) app: Option<&'a str>,
    pub(crate) remote: Option<&'a str>,
    /// `BERTH_APP`.
    pub(crate) environment: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) name: String,
    pub(crate) url: String,
}

/// Chooses the app. `remotes` is only read when the user did not name an app.
pub(crate) fn select(
    wish: &Wish<'_>,
    server: &ServerUrl,
    remotes: impl FnOnce() -> Vec<Remote>,
) -> Result<String, AppSelectionError> {
    if let Some(app) = wish.app {
        return checked(app);
    }
    if let Some(name) = wish.remote {
        let remotes = remotes();
        let remote = remotes.iter().find(|remote| remote.name == name);
        let remote = remote.ok_or_else(|| AppSelectionError::NoSuchRemote(name.to_owned()))?;
        let (_authority, app) = app_of(&remote.url).ok_or_else(|| AppSelectionError::Foreign(name.to_owned()))?;
        return checked(app);
    }
    if let Some(app) = wish.environment.filter(|app| !app.is_empty()) {
        return checked(app);
    }
    let remotes = remotes();
    let ours: Vec<(&str, &str)> = remotes
        .iter()
        .filter_map(|remote| {
            let (authority, app) = app_of(&remote.url)?;
            is_same_server(authority, server.authority()).then_some((remote.name.as_str(), app))
        })
        .collect();
    match (ours.iter().find(|(name, _app)| *name == REMOTE_NAME), ours.as_slice()) {
        (Some((_name, app)), _) | (None, [(_name, app)]) => checked(app),
        (None, []) => Err(AppSelectionError::None),
        (None, several) => {
            Err(AppSelectionError::Several(several.iter().map(|(name, _app)| (*name).to_owned()).collect()))
        }
    }
}

/// Whether two authorities are one installation: `git.`, `api.` and `berth.` of a domain are.
pub(crate) fn is_same_server(left: &str, right: &str) -> bool {
    let bare = |authority: &str| {
        let authority = authority.to_ascii_lowercase();
        let prefix = ["git.", "api.", "berth."].into_iter().find(|prefix| authority.starts_with(prefix));
        prefix.map_or(authority.clone(), |prefix| format!("*.{}", &authority[prefix.len()..]))
    };
    bare(left) == bare(right)
}

/// The authority and the app in `https://host/app.git`.
fn app_of(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let (authority, path) = rest.split_once('/')?;
    let authority = authority.rsplit('@').next()?;
    let app = path.trim_end_matches('/').strip_suffix(".git")?;
    (!app.contains('/')).then_some((authority, app))
}

/// A name or an id, and in no case something that would change the path of a request.
fn checked(app: &str) -> Result<String, AppSelectionError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if app.is_empty() || !app.chars().all(allowed) {
        return Err(AppSelectionError::Name(app.to_owned()));
    }
    Ok(app.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "http://localhost:5000";

    fn check(wish: &Wish<'_>, remotes: &[(&str, &str)], expect: Result<&str, AppSelectionError>) {
        let remotes = remotes.iter().map(|(name, url)| Remote { name: (*name).to_owned(), url: (*url).to_owned() });
        let chosen = select(wish, &ServerUrl::parse(SERVER).unwrap(), || remotes.collect());
        assert_eq!(chosen, expect.map(str::to_owned), "{wish:?}");
    }

    #[test]
    fn what_is_said_counts_before_what_lies_around() {
        let remotes = [("berth", "https://localhost:5000/here.git"), ("other", "https://localhost:5000/there.git")];
        let all = Wish { app: Some("said"), remote: Some("other"), environment: Some("set") };
        check(&all, &remotes, Ok("said"));
        check(&Wish { app: None, ..all }, &remotes, Ok("there"));
        check(&Wish { environment: Some("set"), ..Wish::default() }, &remotes, Ok("set"));
        check(&Wish { environment: Some(""), ..Wish::default() }, &remotes, Ok("here"));
        check(&Wish::default(), &remotes, Ok("here"));
    }

    #[test]
    fn the_only_remote_of_this_server_is_taken_whatever_its_name() {
        let remotes = [("origin", "git@github.com:a/b.git"), ("prod", "https://u:p@localhost:5000/shop.git")];
        check(&Wish::default(), &remotes, Ok("shop"));
        check(&Wish::default(), &[("berth", "https://elsewhere:5000/shop.git")], Err(AppSelectionError::None));
        check(&Wish::default(), &[], Err(AppSelectionError::None));
    }

    #[test]
    fn a_guess_between_two_is_refused() {
        let remotes = [("a", "https://localhost:5000/one.git"), ("b", "https://localhost:5000/two.git")];
        let several = AppSelectionError::Several(vec!["a".to_owned(), "b".to_owned()]);
        check(&Wish::default(), &remotes, Err(several));
    }

    #[test]
    fn a_named_remote_must_exist_and_be_an_app() {
        let wish = Wish { remote: Some("x"), ..Wish::default() };
        check(&wish, &[], Err(AppSelectionError::NoSuchRemote("x".to_owned())));
        check(&wish, &[("x", "git@github.com:a/b.git")], Err(AppSelectionError::Foreign("x".to_owned())));
    }

    #[test]
    fn a_name_cannot_change_the_path_of_a_request() {
        for name in ["", "../x", "a/b", "a?b", "A"] {
            let wish = Wish { app: Some(name), ..Wish::default() };
            check(&wish, &[], Err(AppSelectionError::Name(name.to_owned())));
        }
    }

    #[test]
    fn the_hosts_of_one_installation_are_the_same_server() {
        assert!(is_same_server("git.paas.example", "berth.paas.example"));
        assert!(is_same_server("localhost:5000", "LOCALHOST:5000"));
        assert!(!is_same_server("git.paas.example", "git.other.example"));
        assert!(!is_same_server("paas.example", "git.paas.example"));
        assert!(!is_same_server("localhost:5000", "localhost:5001"));
    }
}
