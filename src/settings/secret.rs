//! Secrets: named in the file, read from a credential, a file or the environment, printed as `***`.

use std::{
    fmt,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Item, Table,
    key::{Form, Get, Shape, keys},
};

/// A secret, as a key's value.
pub const SECRET: Form<Secret> = Form::new(Shape::Secret, |item| item.secret());

keys! {
    /// A secret: one of these.
    mod secret: Rule::Kind;
    /// A file in `$CREDENTIALS_DIRECTORY`, as systemd's `LoadCredential=` makes it.
    get CREDENTIAL: () = "credential", Form::raw(Shape::Text);
    /// A file's whole path. Its owner alone may read it, or nobody may write it, as containers mount secrets.
    get FILE: () = "file", Form::raw(Shape::Text);
    /// A variable of the environment.
    get ENV: () = "env", Form::raw(Shape::Text);
    /// The secret itself, of which `check` warns.
    get VALUE: () = "value", Form::raw(Shape::Pattern("."));
}

keys! {
    /// A secret that signs.
    mod signing_secret: Rule::Schema(
        r#"{ "oneOf": [
            { "required": ["credential"] }, { "required": ["file"] }, { "required": ["env"] }, { "required": ["value"] }
        ] }"#
    );
    /// From this time on it does not sign.
    get UNTIL: () = "until", Form::raw(Shape::Time);
    + secret::FAMILY;
}

/// Where a secret stands.
static PLACES: [(&Get<()>, From); 4] = [
    (&secret::CREDENTIAL, From::Credential),
    (&secret::FILE, From::File),
    (&secret::ENV, From::Env),
    (&secret::VALUE, From::Value),
];

/// A part of a secret that is found. A shorter secret is none: it would blank out words.
pub const PART_BYTES: usize = 6;

/// A secret's text. It has no way into a log, a message or a stored row.
#[derive(Clone)]
pub struct Secret {
    text: SecretString,
    /// `None` where it does not stand in a file.
    place: Option<Arc<Place>>,
}

impl Secret {
    pub fn new(text: String) -> Self {
        Self { text: text.into(), place: None }
    }

    /// The text, for the one who signs or sends it.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The file that it was read from.
    pub fn place(&self) -> Option<&Arc<Place>> {
        self.place.as_ref()
    }
}

/// A file that holds a secret: somebody may write another one into it while the daemon runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    from: From,
    name: String,
}

impl Place {
    /// What it holds now.
    pub fn read(&self) -> Result<Secret, String> {
        let text = read(self.from, &self.name)?;
        Ok(Secret { text: text.into(), place: Some(Arc::new(self.clone())) })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A secret takes part in comparing an old and a new file.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose() && self.place == other.place
    }
}

/// What stands for a secret while its source is not read (`check` without `--resolve`).
const UNRESOLVED: &str = "***";
/// A secret longer than this is a wrong file.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Where a secret stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum From {
    Credential,
    File,
    Env,
    Value,
}

impl Item<'_> {
    /// Whether this is `{ credential | file | env | value = ... }`.
    pub fn is_secret(&self) -> bool {
        let toml::de::DeValue::Table(table) = self.value else {
            return false;
        };
        table.keys().any(|key| PLACES.iter().any(|(place, _)| place.name == key.get_ref().as_ref()))
    }

    /// A secret. `None` after an error; a placeholder while secrets are not read.
    pub fn secret(&self) -> Option<Secret> {
        let mut table = self.secret_table()?;
        let secret = self.read_secret(&mut table);
        table.finish();
        secret
    }

    /// A secret of a list, and the value of its `until`.
    pub fn secret_until(&self) -> Option<(Secret, Option<Item<'_>>)> {
        let mut table = self.secret_table()?;
        let until = table.item(&signing_secret::UNTIL);
        let secret = self.read_secret(&mut table);
        table.finish();
        secret.map(|secret| (secret, until))
    }

    fn secret_table(&self) -> Option<Table<'_>> {
        if self.is_string() {
            self.error(format!("`{}` must be a secret, not a plain string", self.path))
                .help("{ credential = \"name\" }, { file = \"/path\" } or { env = \"NAME\" }".into())
                .report();
            return None;
        }
        self.table()
    }

    fn read_secret(&self, table: &mut Table<'_>) -> Option<Secret> {
        let (from, item) = table.kind(&PLACES)?;
        let text = item.string()?;
        if from == From::Value {
            if text.is_empty() {
                item.error(format!("`{}` is an empty secret", self.path)).report();
                return None;
            }
            self.warn(
                format!("`{}` holds its secret in the file", self.path),
                "use { credential }, { file } or { env }",
            );
            return Some(self.kept(Secret::new(text.to_owned())));
        }
        if !self.context().resolve {
            return Some(Secret::new(UNRESOLVED.into()));
        }
        match read(from, text) {
            Ok(secret) if secret.is_empty() => {
                item.error(format!("`{}`: {} of the environment is empty", self.path, shown(text))).report();
                None
            }
            Ok(secret) => {
                let place =
                    matches!(from, From::Credential | From::File).then(|| Place { from, name: text.to_owned() });
                Some(self.kept(Secret { place: place.map(Arc::new), ..Secret::new(secret) }))
            }
            Err(error) => {
                item.error(format!("`{}`: {error}", self.path)).report();
                None
            }
        }
    }

    /// On the list of what no message may hold.
    fn kept(&self, secret: Secret) -> Secret {
        if secret.expose().len() < PART_BYTES {
            let message =
                format!("`{}` has fewer than {PART_BYTES} characters: it cannot be taken out of messages", self.path);
            self.warn(message, "use a longer one");
        }
        self.context().keep_secret(&secret);
        secret
    }

    /// Warns of a key that is too short for what it does.
    pub fn warn_short(&self, secret: &Secret, chars_min: usize, why: &str) {
        if self.resolved(secret) && secret.expose().len() < chars_min {
            let message = format!("`{}` has fewer than {chars_min} characters: it can be {why}", self.path);
            self.warn(message, "`openssl rand -hex 32` makes one");
        }
    }

    /// Whether a secret's text is really there to be checked.
    pub fn resolved(&self, secret: &Secret) -> bool {
        self.context().resolve || secret.expose() != UNRESOLVED
    }
}

/// A variable's name; what does not look like one may be the secret itself.
fn shown(name: &str) -> &str {
    let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if is_name { name } else { "variable of that name" }
}

fn read(from: From, name: &str) -> Result<String, String> {
    match from {
        From::Value => Ok(name.to_owned()),
        From::Env => read_env(name),
        From::Credential => {
            let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(
                "$CREDENTIALS_DIRECTORY is not set: credentials come from systemd's LoadCredential=".to_owned(),
            )?;
            if name.contains('/') {
                return Err("that is not a credential's name: it has a slash".into());
            }
            read_file(PathBuf::from(dir).join(name))
        }
        From::File => {
            if !name.starts_with('/') {
                return Err("a secret's file is named by its whole path".into());
            }
            let path = PathBuf::from(name);
            let at = access(&path).map_err(|e| format!("failed to read {name}: {e}"))?;
            at.judge().map_err(|why| format!("{name} {why} (mode {:03o}): chmod 600 it", at.file & 0o777))?;
            read_file(path)
        }
    }
}

/// Who may read and write a file.
#[derive(Debug, Clone, Copy)]
struct Access {
    /// Modes of the file, and of the folder that it is in.
    file: u32,
    folder: u32,
    /// It is on a file system that is mounted for reading only.
    read_only: bool,
}

fn access(path: &Path) -> std::io::Result<Access> {
    // The file that links lead to: Kubernetes mounts secrets so.
    let path = path.canonicalize()?;
    let mode = |path: &Path| Ok::<u32, std::io::Error>(std::fs::metadata(path)?.permissions().mode());
    let folder = path.parent().map_or(Ok(0), mode)?;
    let read_only = rustix::fs::statvfs(&path)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    Ok(Access { file: mode(&path)?, folder, read_only })
}

impl Access {
    /// Containers get their secrets as files that their group or everybody may read, and that nobody may write; of these
    /// chmod mends nothing.
    fn judge(self) -> Result<(), &'static str> {
        let writes = |mode: u32, who: u32| mode & who != 0 && !self.read_only;
        if writes(self.file, 0o022) {
            Err("may be written by group or others")
        } else if self.file & 0o077 == 0 {
            Ok(())
        } else if writes(self.file, 0o222) {
            Err("may be read by group or others")
        } else if writes(self.folder, 0o022) {
            Err("may be read by group or others, who may write its folder too")
        } else {
            Ok(())
        }
    }
}

/// The secret that a variable of the environment holds.
pub fn read_env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|e| match e {
        std::env::VarError::NotPresent => format!("the environment has no {}", shown(name)),
        std::env::VarError::NotUnicode(_) => format!("{} of the environment is not UTF-8", shown(name)),
    })
}

/// The secret that a file holds, without the end of its line.
pub fn read_file(path: PathBuf) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("failed to read {}: {e}", path.display());
    let about = std::fs::metadata(&path).map_err(failed)?;
    // A pipe would be waited for, and a device has no end.
    if !about.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    if about.len() > SECRET_BYTES_MAX {
        return Err(format!("{} has {} bytes: too long for a secret", path.display(), about.len()));
    }
    let mut text = String::new();
    let file = std::fs::File::open(&path).map_err(failed)?;
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0444 of podman and Docker and 0440 of Kubernetes were refused, with the advice to chmod what is mounted read-only.
    #[test]
    fn a_file_that_others_read_is_taken_where_nobody_can_write_it() {
        let taken = |file, folder, read_only| Access { file, folder, read_only }.judge().is_ok();
        for file in 0..0o1000_u32 {
            let private = file & 0o077 == 0;
            assert_eq!(taken(file, 0o755, false), private || file & 0o222 == 0, "{file:o}");
            // Others could put another file in its place there.
            assert_eq!(taken(file, 0o1777, false), private, "{file:o} in a folder of everybody");
            assert!(taken(file, 0o1777, true), "{file:o}, mounted for reading only");
        }
    }
}
