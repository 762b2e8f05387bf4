//! The tokens file: one `ROLE TOKEN` a line, where the role is `read` or `admin`; empty lines and lines that begin with
//! `#` are skipped. No error repeats any part of it.

use super::Role;
use crate::encoding::without_mark;
use blake2::{
    Blake2bVar,
    digest::{Update, VariableOutput},
};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The shortest token, in bytes: what is shorter can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// The bits of a file's mode that let its group and others do anything with it.
const MODE_OF_OTHERS: u32 = 0o077;

/// What lets a stranger in. Without `Debug`, as it is a secret.
pub(super) struct Token {
    pub(super) role: Role,
    pub(super) secret: String,
    /// As [`super::Proof::Token`] has it.
    pub(super) fingerprint: [u8; 4],
}

/// Why the tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    #[error("admin.tokens_file: {} cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(
        "admin.tokens_file: {} has mode {mode:03o}, which opens it to others; use chmod 600",
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("admin.tokens_file: {}, line {line}: {fault}", path.display())]
    Line { path: PathBuf, line: usize, fault: LineError },
}

impl AccessError {
    /// Whether this user may not read the file, although another one may.
    pub(crate) fn is_denied(&self) -> bool {
        let Self::Unreadable { error, .. } = self else { return false };
        error.kind() == io::ErrorKind::PermissionDenied
    }
}

/// What is wrong with a line of the tokens file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("not ROLE TOKEN, separated by a space")]
    Fields,
    #[error("the role must be read or admin")]
    Role,
    #[error("the token has {0} characters; it needs {TOKEN_BYTES_MIN} or more")]
    Short(usize),
    #[error("the token has a character that no header can carry; use visible ASCII")]
    Charset,
    #[error("the token was given before")]
    Repeated,
}

/// The tokens of a file that only its owner has rights to.
pub(super) fn read_tokens(path: &Path) -> Result<Vec<Token>, AccessError> {
    let fault = |(line, fault)| AccessError::Line { path: path.to_owned(), line, fault };
    parse_tokens(&read_private(path)?).map_err(fault)
}

fn read_private(path: &Path) -> Result<String, AccessError> {
    let unreadable = |error| AccessError::Unreadable { path: path.to_owned(), error };
    let mut file = File::open(path).map_err(unreadable)?;
    // Of the open file, not of the path, which may be another file by the time it is read.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(AccessError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// The tokens of a file's `text`, or the number of the first bad line and its fault.
pub(super) fn parse_tokens(text: &str) -> Result<Vec<Token>, (usize, LineError)> {
    let mut tokens: Vec<Token> = Vec::new();
    for (number, line) in (1..).zip(without_mark(text).lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = Token::parse(line).map_err(|fault| (number, fault))?;
        if tokens.iter().any(|other| other.secret == token.secret) {
            return Err((number, LineError::Repeated));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

impl Token {
    fn parse(line: &str) -> Result<Self, LineError> {
        let fields: Vec<_> = line.split_whitespace().collect();
        let &[role, secret] = fields.as_slice() else {
            return Err(LineError::Fields);
        };
        let role = match role {
            "read" => Role::Read,
            "admin" => Role::Admin,
            _ => return Err(LineError::Role),
        };
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(LineError::Charset);
        }
        if secret.len() < TOKEN_BYTES_MIN {
            return Err(LineError::Short(secret.len()));
        }
        Ok(Self { role, secret: secret.to_owned(), fingerprint: fingerprint(secret) })
    }
}

fn fingerprint(secret: &str) -> [u8; 4] {
    let mut fingerprint = [0; 4];
    let mut hasher = Blake2bVar::new(fingerprint.len()).expect("BLAKE2b yields 1 to 64 bytes");
    hasher.update(secret.as_bytes());
    hasher.finalize_variable(&mut fingerprint).expect("the length is the one it was made for");
    fingerprint
}
