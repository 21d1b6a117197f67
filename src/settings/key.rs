//! A key of the file, declared once: its name, what it holds, what counts where it is absent, and what it means. The reader
//! takes nothing else; the JSON Schema, the reference and the man page are made of the same declarations.

use std::{borrow::Cow, time::Duration};

use serde_json::Value as Json;

use super::{
    Item,
    units::{self, Rate},
};
use crate::{expr::Expr, model::Name};

/// Declares the keys of a table, as a module with a static for each and their [`Family`]. A key's comment is its text in the
/// reference, in the schema and in the man page; the word before its name is the verb that reads it, with the type that it reads:
/// `need` (and an example), `or` (and what counts otherwise), `get`, or `maybe` (and what its absence means, in words).
macro_rules! keys {
    (
        $(#[doc = $about:literal])*
        mod $family:ident $(: $rule:expr)?;
        $($(#[doc = $doc:literal])* $verb:ident $name:ident: $type:ty = $($given:expr),+;)*
        $(+ $with:expr;)*
    ) => {
        // A key of a private type is read by its own part only, and described by its shape. Not each table needs each import, so that
        // nothing could be expected.
        #[allow(clippy::allow_attributes, clippy::module_inception, private_interfaces, unused_imports)]
        pub mod $family {
            use super::*;
            use $crate::settings::key::{self, *};

            $(pub static $name: $crate::settings::key::key_type!($verb $type) =
                key::Key::$verb(concat!($($doc, "\n"),*), $($given),+);)*

            pub static FAMILY: key::Family = key::Family {
                name: stringify!($family),
                doc: concat!($($about, "\n"),*),
                rule: $crate::settings::key::rule!($($rule)?),
                keys: &[$(&$name),*],
                with: &[$(&$with),*],
            };
        }
    };
}

macro_rules! key_type {
    (need $type:ty) => { $crate::settings::key::Need<$type> };
    (or $type:ty) => { $crate::settings::key::Or<$type> };
    (get $type:ty) => { $crate::settings::key::Get<$type> };
    (maybe $type:ty) => { $crate::settings::key::Get<$type> };
}

macro_rules! rule {
    () => {
        $crate::settings::key::Rule::Free
    };
    ($rule:expr) => {
        $rule
    };
}

pub(crate) use {key_type, keys, rule};

/// What a key holds, and how it is read.
pub struct Form<T: 'static> {
    read: Read<T>,
    pub shape: Shape,
    /// As the file would write it; only of defaults.
    show: fn(&T) -> Json,
}

enum Read<T: 'static> {
    With(fn(&Item<'_>) -> Option<T>),
    Whole(u64, u64, fn(u64) -> T),
    Word(&'static [(&'static str, T)]),
}

/// What a value looks like, for those that describe it.
#[derive(Debug, Clone)]
pub enum Shape {
    Any,
    Boolean,
    Text,
    /// A text that fits a regular expression.
    Pattern(&'static str),
    /// One character.
    Character,
    /// RFC 3339.
    Time,
    Duration,
    Size,
    Rate,
    /// From 0 to 1.
    Share,
    Whole(u64, u64),
    /// One of some words.
    Words(Cow<'static, [&'static str]>),
    /// jq.
    Expr,
    Secret,
    /// `{ jq = "..." }`.
    Jq,
    /// A string, number, boolean, list, secret or jq.
    Value,
    /// A string, number or boolean.
    Scalar,
    List(&'static Shape),
    /// A list with something in it.
    Some(&'static Shape),
    OneOf(&'static [Shape]),
    /// A table whose keys are names.
    Named(&'static Shape),
    /// As `Named`, with something in it.
    SomeNamed(&'static Shape),
    /// A table of bridges or endpoints by their names.
    Entities(&'static Family),
    Table(&'static Family),
    /// Keys of another table that stand for it where it lacks them, except for some.
    Defaults(&'static Family, &'static [&'static str]),
}

/// The keys of one table.
#[derive(Debug)]
pub struct Family {
    /// Its name among the schema's definitions.
    pub name: &'static str,
    pub doc: &'static str,
    pub rule: Rule,
    pub keys: &'static [&'static dyn Declared],
    /// Keys that it shares with others.
    pub with: &'static [&'static Family],
}

/// What holds between the keys of a table.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    Free,
    /// One key, which is a kind's name.
    Kind,
    /// At least one key.
    Some,
    /// More of JSON Schema, as an object.
    Schema(&'static str),
}

impl Family {
    /// All keys of the table, its own first.
    pub fn all(&self) -> impl Iterator<Item = &'static dyn Declared> {
        self.keys.iter().copied().chain(self.shared().into_iter().flat_map(|family| family.keys.iter().copied()))
    }

    /// The families that it shares with others, and those that these have in turn.
    pub fn shared(&self) -> Vec<&'static Family> {
        self.with.iter().flat_map(|family| std::iter::once(*family).chain(family.shared())).collect()
    }
}

/// A key that somebody must write; with an example for who has not.
pub struct Needed(&'static str);

/// A key for which something counts where it is absent.
pub struct Otherwise<T>(fn() -> T);

/// A key that may be absent; and what the reference says of that.
pub struct Optional(&'static str);

/// A key of a table. `A` says what its absence means.
pub struct Key<T: 'static, A> {
    pub name: &'static str,
    pub form: Form<T>,
    pub absent: A,
    pub doc: &'static str,
}

pub type Need<T> = Key<T, Needed>;
pub type Or<T> = Key<T, Otherwise<T>>;
pub type Get<T> = Key<T, Optional>;

impl<T> Need<T> {
    pub const fn need(doc: &'static str, name: &'static str, form: Form<T>, example: &'static str) -> Self {
        Self { name, form, absent: Needed(example), doc }
    }

    pub fn example(&self) -> &'static str {
        self.absent.0
    }
}

impl<T> Or<T> {
    pub const fn or(doc: &'static str, name: &'static str, form: Form<T>, otherwise: fn() -> T) -> Self {
        Self { name, form, absent: Otherwise(otherwise), doc }
    }

    pub fn default(&self) -> T {
        (self.absent.0)()
    }
}

impl<T> Get<T> {
    pub const fn get(doc: &'static str, name: &'static str, form: Form<T>) -> Self {
        Self { name, form, absent: Optional("none"), doc }
    }

    /// With what the reference says of its absence.
    pub const fn maybe(doc: &'static str, name: &'static str, form: Form<T>, absent: &'static str) -> Self {
        Self { name, form, absent: Optional(absent), doc }
    }
}

impl<T: Clone, A> Key<T, A> {
    /// What an item says; `None` where it is wrong, which is told then.
    pub fn read(&self, item: &Item<'_>) -> Option<T> {
        match &self.form.read {
            Read::With(read) => read(item),
            Read::Whole(from, to, make) => item.integer(*from..=*to).map(make),
            Read::Word(words) => item.word(words),
        }
    }
}

/// What the absence of a key means.
#[derive(Debug, Clone, PartialEq)]
pub enum Absent {
    Required,
    Default(Json),
    /// In words.
    Said(&'static str),
}

/// A key, for those that describe it.
pub trait Declared: std::fmt::Debug + Sync {
    fn name(&self) -> &'static str;
    /// Markdown, as the lines of a comment.
    fn doc(&self) -> &'static str;
    fn shape(&self) -> Shape;
    fn absent(&self) -> Absent;
}

impl<T, A> std::fmt::Debug for Key<T, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.name)
    }
}

macro_rules! declared {
    ($absence:ty, $key:ident => $absent:expr, $($bound:tt)*) => {
        impl<T: Sync + $($bound)*> Declared for Key<T, $absence> {
            fn name(&self) -> &'static str {
                self.name
            }

            fn doc(&self) -> &'static str {
                self.doc
            }

            fn shape(&self) -> Shape {
                match &self.form.read {
                    Read::Word(words) => Shape::Words(words.iter().map(|(word, _)| *word).collect()),
                    _ => self.form.shape.clone(),
                }
            }

            fn absent(&self) -> Absent {
                let $key = self;
                $absent
            }
        }
    };
}

declared!(Needed, _key => Absent::Required, 'static);
declared!(Optional, key => Absent::Said(key.absent.0), 'static);
declared!(Otherwise<T>, key => Absent::Default(key.form.shown(&key.default())), PartialEq + 'static);

impl<T: PartialEq> Form<T> {
    fn shown(&self, value: &T) -> Json {
        match &self.read {
            Read::Word(words) => {
                words.iter().find(|(_, of)| of == value).map_or(Json::Null, |(word, _)| (*word).into())
            }
            _ => (self.show)(value),
        }
    }
}

impl<T> Form<T> {
    /// Read by a function of its part.
    pub const fn new(shape: Shape, read: fn(&Item<'_>) -> Option<T>) -> Self {
        Self { read: Read::With(read), shape, show: |_| Json::Null }
    }

    /// With how a default is written.
    pub const fn shown_by(shape: Shape, read: fn(&Item<'_>) -> Option<T>, show: fn(&T) -> Json) -> Self {
        Self { read: Read::With(read), shape, show }
    }

    /// A table with keys of its own.
    pub const fn table(family: &'static Family, read: fn(&Item<'_>) -> Option<T>) -> Self {
        Self::new(Shape::Table(family), read)
    }

    /// One of some words; each stands beside what it means.
    pub const fn words(words: &'static [(&'static str, T)]) -> Self {
        Self { read: Read::Word(words), shape: Shape::Words(Cow::Borrowed(&[])), show: |_| Json::Null }
    }
}

/// A whole number within a range.
pub const fn whole(from: u64, to: u64) -> Form<u64> {
    Form { read: Read::Whole(from, to, |n| n), shape: Shape::Whole(from, to), show: |n| (*n).into() }
}

/// As [`whole`], of what is counted in memory.
pub const fn count(from: u64, to: u64) -> Form<usize> {
    let make = |n| usize::try_from(n).unwrap_or(usize::MAX);
    Form { read: Read::Whole(from, to, make), shape: Shape::Whole(from, to), show: |n| (*n).into() }
}

pub const BOOLEAN: Form<bool> = Form::shown_by(Shape::Boolean, |item| item.boolean(), |yes| (*yes).into());
pub const TEXT: Form<String> =
    Form::shown_by(Shape::Text, |item| item.string().map(str::to_owned), |text| text.as_str().into());
pub const TEXTS: Form<Vec<String>> = Form::shown_by(
    Shape::List(&Shape::Text),
    |item| item.items()?.iter().map(|item| item.string().map(str::to_owned)).collect(),
    |texts| texts.as_slice().into(),
);
pub const NAME: Form<Name> = Form::new(Shape::Text, |item| item.string().map(Name::from));
pub const DURATION: Form<Duration> =
    Form::shown_by(Shape::Duration, |item| item.duration(), |wait| units::spell(*wait).into());
/// More than nothing: a deadline or a wait.
pub const SOME_DURATION: Form<Duration> =
    Form::shown_by(Shape::Duration, |item| item.some_duration(), |wait| units::spell(*wait).into());
pub const SIZE: Form<u64> = Form::shown_by(Shape::Size, |item| item.size(), |bytes| units::spell_size(*bytes).into());
pub const RATE: Form<Rate> = Form::new(Shape::Rate, |item| item.parse_text(units::rate, "a rate such as \"10/s\""));
pub const SHARE: Form<f64> = Form::shown_by(Shape::Share, |item| item.share(), |share| (*share).into());
pub const EXPR: Form<Expr> = Form::new(Shape::Expr, |item| item.expr());
/// It sees `$headers` and `$status`.
pub const EXPR_OVER_ANSWER: Form<Expr> = Form::new(Shape::Expr, |item| item.expr_over_answer());

/// The words of a list in which each stands beside what it means.
#[expect(clippy::indexing_slicing, reason = "a constant has no iterator, and both have the length")]
pub const fn names<T, const N: usize>(words: &[(&'static str, T); N]) -> [&'static str; N] {
    let (mut names, mut at) = ([""; N], 0);
    while at < N {
        names[at] = words[at].0;
        at += 1;
    }
    names
}

impl Form<()> {
    /// What its reader looks at as an item.
    pub const fn raw(shape: Shape) -> Self {
        Self::new(shape, |_| Some(()))
    }
}
