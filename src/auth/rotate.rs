//! `auth.rotate`: several credentials of one kind of access, each with a rate limit of its own. The one with the largest part
//! left is used.

use std::time::Duration;

use reqwest::header::HeaderMap;

use super::{Auth, With, auth, vault};
use crate::{
    http::hint::Budget,
    model::{Hash, Timestamp},
    settings::{Table, key::keys, secret::Secret},
};

/// When a budget of which the server does not say it is whole again.
const RESET: Duration = Duration::from_secs(60);

keys! {
    /// Several credentials.
    mod rotate;
    /// The credentials, each `basic`, `bearer`, `header`, `headers` or `query`.
    need OF: () = "of", Form::raw(Shape::Some(&Shape::Table(&auth::FAMILY))),
        "of = [{ bearer.secret = { env = \"A\" } }, { bearer.secret = { env = \"B\" } }]";
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rotate {
    pub of: Vec<Auth>,
    id: Hash,
}

impl Rotate {
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let item = table.need_item(&rotate::OF)?;
        let mut of = Vec::new();
        for one in item.items()? {
            let mut found = Auth::read_all(&one)?;
            match (found.pop(), found.is_empty()) {
                (
                    Some(
                        auth @ (Auth::Basic { .. }
                        | Auth::Bearer { .. }
                        | Auth::Header { .. }
                        | Auth::Headers(_)
                        | Auth::Query(_)),
                    ),
                    true,
                ) => {
                    of.push(auth);
                }
                _ => {
                    one.error(format!("`{}` must hold one of basic, bearer, header, headers and query", one.path))
                        .report();
                    return None;
                }
            }
        }
        if of.is_empty() {
            item.error(format!("`{}` is empty", item.path)).report();
            return None;
        }
        let secrets: Vec<&str> = of.iter().flat_map(Auth::secrets).map(Secret::expose).collect();
        let id = vault::id("rotate", &secrets);
        Some(Self { of, id })
    }

    /// The same with what its secrets are now.
    pub fn with(&self, now: &dyn Fn(&Secret) -> Secret) -> Self {
        Self { of: self.of.iter().map(|auth| auth.with(now)).collect(), id: self.id }
    }

    /// The number of the credential to use now.
    pub async fn choose(&self, with: &With<'_>) -> usize {
        let (login, now) = (with.vault.login(self.id).await, with.clock.now());
        let left = |number: &usize| login.budgets.get(number).map_or(f64::INFINITY, |known| left(known, now));
        (0..self.of.len()).max_by(|a, b| left(a).total_cmp(&left(b)).then(b.cmp(a))).unwrap_or(0)
    }

    /// Notes what an answer says of the credential that was used. True when it is used up, or refused for that, and another
    /// is not.
    pub async fn learn(&self, used: usize, status: u16, headers: &HeaderMap, with: &With<'_>) -> bool {
        let now = with.clock.now();
        let mut login = with.vault.login(self.id).await;
        let told = Budget::read(headers, now);
        let refused = status == 429;
        if let Some(budget) =
            told.or(refused.then(|| Budget { remaining: 0.0, reset: crate::http::retry_after::wait(headers, now) }))
        {
            login.budgets.insert(used, (budget, now));
        }
        let spent = login.budgets.get(&used).is_some_and(|known| left(known, now) < 1.0);
        let another = (0..self.of.len())
            .any(|number| number != used && login.budgets.get(&number).is_none_or(|known| left(known, now) >= 1.0));
        spent && another
    }
}

/// What is left of a budget, which is whole again after its reset.
fn left((budget, at): &(Budget, Timestamp), now: Timestamp) -> f64 {
    if at.plus(budget.reset.unwrap_or(RESET)) <= now { f64::INFINITY } else { budget.remaining }
}
