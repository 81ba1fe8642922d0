//! Records sealed at rest: with what, and where the keys come from.

use std::path::PathBuf;
use std::sync::Arc;

use grey_config::{Check, choice, section};
use grey_seal::{Algorithm, KeyError, KeySource, Keyring, MasterKey, Seal};

/// Keys that may be given: the current one, and those that older records need.
const KEYS_MAX: usize = 16;

choice! {
    /// What records are sealed with.
    pub enum Cipher {
        /// AES where the processor has instructions for it, else ChaCha20.
        Auto = "auto",
        /// AES-256 in Galois/counter mode.
        Aes256Gcm = "aes-256-gcm",
        /// ChaCha20 and Poly1305.
        ChaCha20Poly1305 = "chacha20-poly1305",
    }
}

section! {
    /// Encryption of what is on disk. Without keys nothing is encrypted.
    pub struct Encryption {
        /// With what.
        pub cipher: Cipher = Cipher::Auto,
        /// The keys: the first seals what is written from now on, the others open what they sealed before.
        pub keys: Vec<KeyFrom> = Vec::new(),
        /// False writes in the clear from now on; what the keys sealed before can still be read.
        pub enabled: bool = true,
    }
}

section! {
    /// Where a key of 32 bytes comes from, as 64 hexadecimal digits, base64 or raw. One of the three.
    pub struct KeyFrom {
        /// A file that holds nothing else.
        pub file: Option<PathBuf> = None,
        /// An environment variable.
        pub env: Option<String> = None,
        /// A program and its arguments, which prints the key: it may ask a TPM or a key service.
        pub command: Vec<String> = Vec::new(),
    }
}

impl KeyFrom {
    /// The one place that is named.
    fn source(&self) -> Option<KeySource> {
        match (&self.file, &self.env, &self.command[..]) {
            (Some(path), None, []) => Some(KeySource::File(path.clone())),
            (None, Some(name), []) => Some(KeySource::Env(name.clone())),
            (None, None, [_, ..]) => Some(KeySource::Command(self.command.clone())),
            _ => None,
        }
    }
}

impl Encryption {
    pub(super) fn check(&self, check: &mut Check<'_>) {
        for (n, key) in self.keys.iter().enumerate() {
            if key.source().is_none() {
                let path = format!("edge.storage.encryption.keys[{n}]");
                check.reject(&path, "does not name one place".to_owned(), "one of file, env, command");
            }
        }
        if self.keys.len() > KEYS_MAX {
            let problem = format!("{} keys are given", self.keys.len());
            check.reject("edge.storage.encryption.keys", problem, "at most 16");
        }
    }

    /// Reads the keys. `None` where none are given. The warnings are for the operator.
    ///
    /// # Errors
    /// A key that cannot be read.
    pub fn seal(&self) -> Result<(Option<Seal>, Vec<String>), KeyError> {
        let mut warnings = Vec::new();
        let mut keys: Vec<MasterKey> = Vec::new();
        for source in self.keys.iter().filter_map(KeyFrom::source) {
            let loaded = source.load()?;
            warnings.extend(loaded.warning);
            keys.push(loaded.key);
        }
        if keys.is_empty() {
            return Ok((None, warnings));
        }
        let keyring = Arc::new(Keyring::new(keys)?);
        let algorithm = match self.cipher {
            Cipher::Auto => Algorithm::auto(),
            Cipher::Aes256Gcm => Algorithm::Aes256Gcm,
            Cipher::ChaCha20Poly1305 => Algorithm::ChaCha20Poly1305,
        };
        let seal = if self.enabled { Seal::new(keyring, algorithm, "edge") } else { Seal::opening(keyring, "edge") };
        Ok((Some(seal), warnings))
    }

    /// What becomes of what is written, in a sentence.
    pub(super) fn explain(&self) -> String {
        match (self.keys.is_empty(), self.enabled) {
            (true, _) => "nothing on disk is encrypted".to_owned(),
            (false, false) => "nothing new on disk is encrypted; what was can be read".to_owned(),
            (false, true) => format!(
                "everything that devices send is encrypted on disk ({}) with the first of {} keys",
                self.cipher.as_str(),
                self.keys.len()
            ),
        }
    }
}
