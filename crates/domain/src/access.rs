//! Who may do what: the one decision behind every request.

use std::fmt;

/// What somebody may do with an app, in Heroku's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See it: dynos, releases, logs.
    View,
    /// Bring new code.
    Deploy,
    /// Run it: scale, restart, config, domains, one-off dynos.
    Operate,
    /// Decide about it: people, name, end. Whoever may could give themselves the rest: it is included.
    Manage,
}

impl Permission {
    pub const ALL: [Self; 4] = [Self::View, Self::Deploy, Self::Operate, Self::Manage];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Deploy => "deploy",
            Self::Operate => "operate",
            Self::Manage => "manage",
        }
    }

    pub const fn description(self) -> &'static str {
        match self {
            Self::View => "Can view an app",
            Self::Deploy => "Can deploy an app",
            Self::Operate => "Can operate an app",
            Self::Manage => "Can manage an app",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of permissions. Whoever has any may view, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u8);

impl Permissions {
    pub const NONE: Self = Self(0);
    pub const EVERY: Self = Self(0b1111);

    /// What a collaborator has who was added without a word about it: everything but deciding about the app.
    pub const COLLABORATOR: Self = Self(0b0111);

    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    pub fn list(self) -> Vec<Permission> {
        Permission::ALL.into_iter().filter(|permission| self.contains(*permission)).collect()
    }

    /// Reads words as `Display` writes them. `None` if one is unknown, or there are none.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut set = Self::NONE;
        for word in words {
            let permission = Permission::ALL.into_iter().find(|permission| permission.as_str() == word)?;
            set.0 |= match permission {
                Permission::Manage => Self::EVERY.0,
                Permission::View | Permission::Deploy | Permission::Operate => {
                    permission.bit() | Permission::View.bit()
                }
            };
        }
        (set != Self::NONE).then_some(set)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.list().into_iter().map(Permission::as_str).collect();
        f.write_str(&words.join(","))
    }
}

/// How the text of an invitation begins.
pub const INVITATION_PREFIX: &str = "invite-";

/// What a token is good for, in Heroku's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    Global,
    /// Who it is, and nothing else.
    Identity,
    Read,
    Write,
    /// With config vars.
    ReadProtected,
    WriteProtected,
    /// What a deploy of one app takes. A token with this word or the next names the app.
    Deploy,
    /// Besides, what promoting from it takes.
    Promote,
    /// To be exchanged for a token, once.
    Invitation,
}

impl Scope {
    const ALL: [Self; 9] = [
        Self::Global,
        Self::Identity,
        Self::Read,
        Self::Write,
        Self::ReadProtected,
        Self::WriteProtected,
        Self::Deploy,
        Self::Promote,
        Self::Invitation,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Identity => "identity",
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadProtected => "read-protected",
            Self::WriteProtected => "write-protected",
            Self::Deploy => "deploy",
            Self::Promote => "promote",
            Self::Invitation => "invitation",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    /// Whether it is for one app alone, which the token names.
    pub const fn is_for_one_app(self) -> bool {
        matches!(self, Self::Deploy | Self::Promote)
    }

    /// Whether it is good for something. Writing includes reading.
    const fn covers(self, need: Need, access: Access, errand: Errand) -> bool {
        match need {
            Need::Identity => !matches!(self, Self::Invitation),
            Need::Login => matches!(self, Self::Global | Self::Invitation),
            Need::Account | Need::Administrator => matches!(self, Self::Global),
            Need::Anybody | Need::App(_) => match (self, access) {
                (Self::Global, _) => true,
                (Self::Identity | Self::Invitation, _) => false,
                (Self::Read, access) => matches!(access, Access::Read),
                (Self::Write, access) => matches!(access, Access::Read | Access::Write),
                (Self::ReadProtected, access) => matches!(access, Access::Read | Access::ReadProtected),
                (Self::WriteProtected, _) => true,
                (Self::Deploy, _) => matches!(errand, Errand::Deploy),
                (Self::Promote, _) => matches!(errand, Errand::Promotion | Errand::PromotionTarget),
            },
        }
    }
}

/// What a request does, as far as scopes tell it apart. What is protected may show secrets: config vars, shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    ReadProtected,
    WriteProtected,
}

/// What a request may be part of, for tokens that are for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    Deploy,
    /// From the app in question to others.
    Promotion,
    /// To the app in question, from another one.
    PromotionTarget,
    Other,
}

/// What an endpoint needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To know who asks.
    Identity,
    /// A login or the beginning of one.
    Login,
    /// One's own account: keys, tokens.
    Account,
    /// Nothing that belongs to somebody; or lists that hold only what the asker may see.
    Anybody,
    /// The app in the path.
    App(Permission),
    Administrator,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing<'a> {
    pub administrator: bool,
    pub scopes: &'a [Scope],
    /// With the app in the path, if there is one.
    pub permissions: Permissions,
    /// Whether the token is for one app, and the request is about another one.
    pub elsewhere: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// The token is for less.
    OutOfScope,
    /// It does not exist, as far as the asker is concerned.
    Hidden,
    /// The asker sees the app and lacks this.
    Lacks(Permission),
    NotAdministrator,
}

/// Decides about a request. Administrators have every permission with every app.
pub fn decide(need: Need, access: Access, errand: Errand, who: &Standing<'_>) -> Decision {
    let covered = who.scopes.iter().any(|scope| scope.covers(need, access, errand));
    // The app that takes a promotion is always another one.
    if !covered || who.elsewhere && errand != Errand::PromotionTarget {
        return Decision::OutOfScope;
    }
    match need {
        Need::Identity | Need::Login | Need::Account | Need::Anybody => Decision::Allow,
        Need::Administrator if who.administrator => Decision::Allow,
        Need::Administrator => Decision::NotAdministrator,
        Need::App(_) if who.administrator => Decision::Allow,
        Need::App(_) if who.permissions == Permissions::NONE => Decision::Hidden,
        Need::App(permission) if who.permissions.contains(permission) => Decision::Allow,
        Need::App(permission) => Decision::Lacks(permission),
    }
}

/// Whether a request takes a code of the asker's second factor where the app asks for one.
///
/// That is whatever changes the app or shows its secrets. Tokens for one app are let through: they are good for deploys
/// alone, and were made with a code.
pub fn needs_second_factor(need: Need, access: Access, scopes: &[Scope]) -> bool {
    matches!(need, Need::App(_)) && access != Access::Read && !scopes.iter().any(|scope| scope.is_for_one_app())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(need: Need, access: Access, scope: Scope, permissions: Permissions) -> Decision {
        decide(
            need,
            access,
            Errand::Other,
            &Standing { administrator: false, scopes: &[scope], permissions, elsewhere: false },
        )
    }

    #[test]
    fn an_app_is_hidden_from_strangers_and_closed_to_those_who_lack_a_permission() {
        let need = Need::App(Permission::Operate);
        let ask = |permissions| ask(need, Access::Write, Scope::Global, permissions);
        assert_eq!(ask(Permissions::NONE), Decision::Hidden);
        assert_eq!(ask(Permissions::parse(["deploy"]).unwrap()), Decision::Lacks(Permission::Operate));
        assert_eq!(ask(Permissions::parse(["operate"]).unwrap()), Decision::Allow);
    }

    #[test]
    fn an_administrators_token_is_still_bound_by_its_scope() {
        let ask = |need, scope| {
            let who =
                Standing { administrator: true, scopes: &[scope], permissions: Permissions::NONE, elsewhere: false };
            decide(need, Access::Write, Errand::Other, &who)
        };
        let need = Need::App(Permission::Manage);
        assert_eq!(ask(need, Scope::Global), Decision::Allow);
        assert_eq!(ask(need, Scope::Read), Decision::OutOfScope);
        assert_eq!(ask(Need::Administrator, Scope::WriteProtected), Decision::OutOfScope);
    }

    #[test]
    fn scopes_are_good_for_what_their_names_say() {
        let app =
            |scope, access| ask(Need::App(Permission::View), access, scope, Permissions::EVERY) == Decision::Allow;
        let good_for = |scope| {
            [Access::Read, Access::Write, Access::ReadProtected, Access::WriteProtected]
                .map(|access| app(scope, access))
        };
        assert_eq!(good_for(Scope::Global), [true; 4]);
        assert_eq!(good_for(Scope::Read), [true, false, false, false]);
        assert_eq!(good_for(Scope::Write), [true, true, false, false]);
        assert_eq!(good_for(Scope::ReadProtected), [true, false, true, false]);
        assert_eq!(good_for(Scope::WriteProtected), [true; 4]);
        assert_eq!(good_for(Scope::Identity), [false; 4]);
        assert_eq!(good_for(Scope::Invitation), [false; 4]);
        let own = |scope| ask(Need::Account, Access::Write, scope, Permissions::NONE);
        assert_eq!((own(Scope::WriteProtected), own(Scope::Global)), (Decision::OutOfScope, Decision::Allow));
    }

    #[test]
    fn a_token_for_deploys_is_good_for_deploys_of_its_app_and_no_more_than_its_account() {
        const BOTH: &[Scope] = &[Scope::Deploy, Scope::Promote];
        let ask = |scopes, errand, permissions, elsewhere| {
            let who = Standing { administrator: false, scopes, permissions, elsewhere };
            decide(Need::App(Permission::Deploy), Access::Write, errand, &who)
        };
        let deployer = Permissions::parse(["deploy"]).unwrap();
        assert_eq!(ask(&BOTH[..1], Errand::Deploy, deployer, false), Decision::Allow);
        assert_eq!(ask(&BOTH[..1], Errand::Promotion, deployer, false), Decision::OutOfScope);
        assert_eq!(ask(BOTH, Errand::Promotion, deployer, false), Decision::Allow);
        let viewer = Permissions::parse(["view"]).unwrap();
        assert_eq!(ask(BOTH, Errand::Deploy, viewer, false), Decision::Lacks(Permission::Deploy));
        for errand in [Errand::Deploy, Errand::Promotion, Errand::Other] {
            assert_eq!(ask(BOTH, errand, Permissions::EVERY, true), Decision::OutOfScope, "{errand:?}");
        }
        assert_eq!(ask(BOTH, Errand::Other, Permissions::EVERY, false), Decision::OutOfScope);
        // Promotions go to other apps, as far as the account may.
        assert_eq!(ask(BOTH, Errand::PromotionTarget, deployer, true), Decision::Allow);
        assert_eq!(ask(BOTH, Errand::PromotionTarget, viewer, true), Decision::Lacks(Permission::Deploy));
        assert_eq!(ask(&BOTH[..1], Errand::PromotionTarget, deployer, true), Decision::OutOfScope);
    }

    #[test]
    fn a_second_factor_is_for_changes_and_secrets_of_apps() {
        let needs = |need, access, scope| needs_second_factor(need, access, &[scope]);
        let app = Need::App(Permission::Operate);
        assert!(needs(app, Access::Write, Scope::Global));
        assert!(needs(app, Access::ReadProtected, Scope::ReadProtected));
        assert!(!needs(app, Access::Read, Scope::Global));
        assert!(!needs(app, Access::Write, Scope::Deploy));
        assert!(!needs(Need::Account, Access::Write, Scope::Global));
    }

    #[test]
    fn permissions_are_read_as_they_are_written() {
        let some = Permissions::parse(["deploy"]).unwrap();
        assert_eq!(some.to_string(), "view,deploy");
        assert_eq!(Permissions::parse(some.to_string().split(',')), Some(some));
        assert_eq!(Permissions::parse(["manage"]), Some(Permissions::EVERY));
        assert_eq!(Permissions::parse(["rule"]), None);
        assert_eq!(Permissions::parse([]), None);
        assert_eq!(Permissions::COLLABORATOR.to_string(), "view,deploy,operate");
    }
}
