//! What accounts may do in the mailboxes of others, without impersonation.

use std::{
    collections::HashMap,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    mailbox::{CALENDAR, CONTACTS, Contents, INBOX, TASKS},
    world::{Mailbox, World},
};

/// Something that an account may do in another's mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Everything in it, but not send as its owner.
    FullAccess,
    /// What delegates may: the Inbox, calendar, contacts and tasks with all beneath, and send on the owner's behalf.
    Delegate,
    /// Send as its owner.
    SendAs,
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full_access" => Ok(Self::FullAccess),
            "delegate" => Ok(Self::Delegate),
            "send_as" => Ok(Self::SendAs),
            _ => Err(format!("{text} is none of full_access, delegate, send_as")),
        }
    }
}

/// The permissions of an account in a mailbox. A later grant for the same two takes the place of an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The mailbox's address; `None`: all that have no grant of their own.
    #[serde(default)]
    pub mailbox: Option<String>,
    /// The account's address; `None`: the service account.
    #[serde(default)]
    pub to: Option<String>,
    /// What it may do: nothing at all, if there is none.
    pub permissions: Vec<Permission>,
}

/// How a request comes to a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is the mailbox of whoever acts.
    Own,
    /// By permissions.
    Granted(Rights),
}

/// Permissions at a glance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub full_access: bool,
    pub delegate: bool,
    pub send_as: bool,
}

impl Rights {
    fn of(permissions: &[Permission]) -> Self {
        let has = |permission| permissions.contains(&permission);
        Self {
            full_access: has(Permission::FullAccess),
            delegate: has(Permission::Delegate),
            send_as: has(Permission::SendAs),
        }
    }

    /// True if some folder can be opened.
    pub fn opens(self) -> bool {
        self.full_access || self.delegate
    }

    /// True if mail may be sent in the owner's name.
    pub fn sends(self) -> bool {
        self.delegate || self.send_as
    }
}

impl Access {
    /// True if a folder can be opened.
    pub fn reaches(self, folder: u32, contents: &Contents) -> bool {
        let Self::Granted(rights) = self else { return true };
        let shared = [INBOX, CALENDAR, CONTACTS, TASKS];
        let mut way = std::iter::successors(Some(folder), |folder| contents.describe(*folder)?.2);
        rights.full_access || rights.delegate && way.any(|folder| shared.contains(&folder))
    }
}

/// All grants, by account and mailbox.
#[derive(Debug, Default)]
pub(crate) struct Grants(HashMap<(u32, Option<u32>), Vec<Permission>>);

impl Grants {
    pub fn set(&mut self, to: u32, mailbox: Option<u32>, permissions: Vec<Permission>) {
        self.0.insert((to, mailbox), permissions);
    }

    /// What an account may do in a mailbox.
    pub fn rights(&self, to: u32, mailbox: u32) -> Rights {
        let granted = self.0.get(&(to, Some(mailbox))).or_else(|| self.0.get(&(to, None)));
        granted.map_or_else(Rights::default, |permissions| Rights::of(permissions))
    }

    /// All of them, in the order of accounts and mailboxes.
    pub fn all(&self) -> Vec<(u32, Option<u32>, Vec<Permission>)> {
        let mut all: Vec<_> =
            self.0.iter().map(|(&(to, mailbox), granted)| (to, mailbox, granted.clone())).collect();
        all.sort_by_key(|(to, mailbox, _)| (*to, *mailbox));
        all
    }
}

fn lock(grants: &Mutex<Grants>) -> MutexGuard<'_, Grants> {
    grants.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Gives or takes permissions.
    ///
    /// # Errors
    /// An address that nobody has.
    pub fn grant(&self, grant: &Grant) -> Result<(), String> {
        let number = |field: &str, address: &String| {
            let found = self.mailbox_at(address).map(|mailbox| mailbox.number);
            found.ok_or_else(|| format!("{field}: there is no mailbox {address}"))
        };
        let mailbox = grant.mailbox.as_ref().map(|address| number("mailbox", address)).transpose()?;
        let to = grant.to.as_ref().map_or(Ok(0), |address| number("to", address))?;
        lock(&self.grants).set(to, mailbox, grant.permissions.clone());
        Ok(())
    }

    /// What was given.
    pub fn grants(&self) -> Vec<Grant> {
        let address = |number| self.mailbox(number).map(|mailbox| mailbox.address.clone());
        let grant = |(to, mailbox, permissions): (u32, Option<u32>, _)| Grant {
            mailbox: mailbox.and_then(address),
            to: address(to),
            permissions,
        };
        lock(&self.grants).all().into_iter().map(grant).collect()
    }

    /// What whoever acts may do in a mailbox.
    pub fn rights(&self, acting: &Mailbox, mailbox: &Mailbox) -> Rights {
        lock(&self.grants).rights(acting.number, mailbox.number)
    }
}
