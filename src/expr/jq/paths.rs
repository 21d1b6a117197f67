//! What assignments and deletions make of a value.

use std::sync::Arc;

use jaq_json::{Map, Val};

use super::value::{Error, Made, Value, bounds};

/// An array's last place that can be assigned to (jq's own limit).
const INDEX_MAX: usize = 536_870_911;

impl Value {
    /// `.[key]` with the child made again; `None` removes it. Where there is nothing yet, it becomes what the key asks for.
    pub fn with_child<E: From<Error>>(
        self,
        key: &Self,
        make: impl FnOnce(Self) -> Result<Option<Self>, E>,
    ) -> Result<Self, E> {
        if let Some((from, to)) = key.as_slice() {
            return self.with_slice(&from, &to, make);
        }
        let was_null = self.0 == Val::Null;
        let target = match (self.0, &key.0) {
            (Val::Null, Val::TStr(_)) => Val::obj(Map::default()),
            (Val::Null, Val::Num(_)) => Val::Arr(Arc::default()),
            (other, _) => other,
        };
        match (target, &key.0) {
            (Val::Obj(mut pairs), Val::TStr(_)) => {
                let place = Arc::make_mut(&mut pairs);
                let old = place.get_mut(&key.0).map(std::mem::take);
                match make(Self(old.unwrap_or_default()))? {
                    Some(new) => drop(place.insert(key.0.clone(), new.0)),
                    None if was_null => return Ok(Self::null()),
                    None => drop(place.shift_remove(&key.0)),
                }
                Ok(Self(Val::Obj(pairs)))
            }
            (Val::Arr(mut items), Val::Num(_)) => {
                let message = |text: &str| Error::str(text);
                let at = key.place().ok_or_else(|| message("Cannot set array element at NaN index"))?;
                let at = match usize::try_from(at) {
                    Ok(at) => at,
                    Err(_) => usize::try_from(at.unsigned_abs())
                        .ok()
                        .and_then(|back| items.len().checked_sub(back))
                        .ok_or_else(|| message("Out of bounds negative array index"))?,
                };
                if at > INDEX_MAX {
                    return Err(message("Array index too large").into());
                }
                let old = Arc::make_mut(&mut items).get_mut(at).map(std::mem::take);
                let new = make(Self(old.unwrap_or_default()))?;
                let items_now = Arc::make_mut(&mut items);
                match new {
                    Some(new) => {
                        if at >= items_now.len() {
                            items_now.resize(at + 1, Val::Null);
                        }
                        if let Some(place) = items_now.get_mut(at) {
                            *place = new.0;
                        }
                    }
                    None if was_null => return Ok(Self::null()),
                    None if at < items_now.len() => drop(items_now.remove(at)),
                    None => {}
                }
                Ok(Self(Val::Arr(items)))
            }
            (Val::Arr(_), Val::Arr(_)) => Err(Error::str("Cannot update field at array index of array").into()),
            (target, _) => Err(Self(target).cannot_index(key).into()),
        }
    }

    pub fn with_slice<E: From<Error>>(
        self,
        from: &Self,
        to: &Self,
        make: impl FnOnce(Self) -> Result<Option<Self>, E>,
    ) -> Result<Self, E> {
        let mut items = match self.0 {
            Val::Null => Arc::default(),
            Val::Arr(items) => items,
            Val::TStr(_) => return Err(Error::str("Cannot update string slices").into()),
            other => return Err(Self(other).cannot_slice().into()),
        };
        let range = bounds(from, to, items.len())?;
        let old = items.get(range.clone()).unwrap_or_default().to_vec();
        let new = match make(Self(Val::Arr(Arc::new(old))))?.map(|new| new.0) {
            None => Vec::new(),
            Some(Val::Arr(new)) => new.to_vec(),
            Some(_) => return Err(Error::str("A slice of an array can only be assigned another array").into()),
        };
        Arc::make_mut(&mut items).splice(range, new);
        Ok(Self(Val::Arr(items)))
    }

    pub fn set_path(self, path: &[Val], new: Self) -> Made {
        let Some((key, rest)) = path.split_first() else { return Ok(new) };
        self.with_child(&Self(key.clone()), |child| child.set_path(rest, new).map(Some))
    }

    /// Without what the paths lead to; they are sorted, and all are of the value as it is.
    pub fn without_paths(self, paths: &[&[Val]]) -> Made {
        let mut gone = Vec::new();
        let mut value = self;
        let mut rest = paths;
        while let Some(first) = rest.first() {
            let Some((key, _)) = first.split_first() else { return Ok(Self::null()) };
            // NaN is not even itself.
            let same = rest.iter().take_while(|path| path.first() == Some(key)).count().max(1);
            let (here, others) = rest.split_at_checked(same).unwrap_or((rest, &[]));
            if here.iter().any(|path| path.len() == 1) {
                gone.push(Self(key.clone()));
            } else {
                let key = Self(key.clone());
                let below: Vec<&[Val]> = here.iter().filter_map(|path| path.get(1..)).collect();
                if !matches!(value.clone().child(&key)?.0, Val::Null) {
                    value = value.with_child(&key, |child| child.without_paths(&below).map(Some))?;
                }
            }
            rest = others;
        }
        value.without(&gone)
    }

    /// Without some children, all named as they are before any goes.
    fn without(self, keys: &[Self]) -> Made {
        if keys.is_empty() {
            return Ok(self);
        }
        match self.0 {
            Val::Null => Ok(Self::null()),
            Val::Obj(mut pairs) => {
                for key in keys {
                    if !matches!(key.0, Val::TStr(_)) {
                        return Err(Error::str(format_args!("Cannot delete field at {} index of object", key.kind())));
                    }
                    Arc::make_mut(&mut pairs).shift_remove(&key.0);
                }
                Ok(Self(Val::Obj(pairs)))
            }
            Val::Arr(mut items) => {
                let mut stays = vec![true; items.len()];
                let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
                for key in keys {
                    let range = match (&key.0, key.as_slice()) {
                        (_, Some((from, to))) => bounds(&from, &to, items.len())?,
                        (Val::Num(_), _) => {
                            let at = key.place().map(|at| if at < 0 { at + count } else { at });
                            at.and_then(|at| usize::try_from(at).ok()).map_or(0..0, |at| at..at.saturating_add(1))
                        }
                        _ => {
                            return Err(Error::str(format_args!(
                                "Cannot delete field at {} index of array",
                                key.kind()
                            )));
                        }
                    };
                    let end = range.end.min(stays.len());
                    if let Some(gone) = stays.get_mut(range.start.min(end)..end) {
                        gone.fill(false);
                    }
                }
                let mut stays = stays.into_iter();
                Arc::make_mut(&mut items).retain(|_| stays.next().unwrap_or(true));
                Ok(Self(Val::Arr(items)))
            }
            other => {
                let key = keys.first().map_or("null", Self::kind);
                Err(Error::str(format_args!("Cannot delete field at {key} index of {}", Self(other).kind())))
            }
        }
    }
}
