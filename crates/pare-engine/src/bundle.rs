//! A model with everything needed to use it, opened by what the user typed.

use crate::progress::Work;
use crate::{Error, built_in};
use pare_format::chat::{ChatTemplate, Message};
use pare_format::config::ModelConfig;
use pare_format::directory::ModelDirectory;
use pare_format::gguf::GgufModel;
use pare_format::map;
use pare_format::tokenizer::Tokenizer;
use pare_format::{FormatError, FormatErrorKind};
use pare_methods::rewrite::off_grid;
use pare_model::load::{Loaded, from_directory, from_gguf};
use pare_model::model::Model;
use std::path::{Path, PathBuf};

/// Largest tokenizer.json that is read: the largest vocabularies in use are below 40 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// A model, its tokenizer and its description.
#[derive(Debug)]
pub struct Bundle {
    /// As the user named it.
    pub name: String,
    /// The directory or file that it was read from.
    pub path: PathBuf,
    /// The model.
    pub model: Model,
    /// Its description.
    pub config: ModelConfig,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// What is odd but allowed.
    pub warnings: Vec<String>,
    /// Whether the model holds other numbers than its files.
    pub rewritten: bool,
}

impl Bundle {
    /// Opens MODEL: a built-in name (fetched when needed), `hf:organisation/name`, a directory, or a `.gguf` file.
    ///
    /// # Errors
    /// There is no such model; it cannot be fetched; what is wrong with its files; the user stops a download.
    pub fn open(name: &str, work: Work<'_>) -> Result<Self, Error> {
        if let Some(model) = built_in::find(name) {
            return Self::from_gguf(name, &model.fetch()?);
        }
        if let Some(repository) = name.strip_prefix("hf:") {
            return Self::from_directory(name, &crate::hub::fetch(repository, work)?);
        }
        let path = Path::new(name);
        if path.is_dir() {
            return Self::from_directory(name, path);
        }
        if has_gguf_name(path) || is_gguf(path) {
            return Self::from_gguf(name, path);
        }
        let known: Vec<&str> = built_in::BUILT_IN.iter().map(|model| model.name).collect();
        let nearest = pare_methods::names::nearest(name, known.iter().copied());
        let nearest = nearest.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        let what = if path.exists() { "is neither a model directory nor a GGUF file" } else { "no such model" };
        Err(Error::Refused(format!(
            "{name}: {what}{nearest}; MODEL is a directory with config.json and *.safetensors, a .gguf file, hf:organisation/name, or one of {}",
            known.join(", ")
        )))
    }

    fn from_directory(name: &str, path: &Path) -> Result<Self, Error> {
        let directory = ModelDirectory::open(path)?;
        let loaded = from_directory(&directory)?;
        let Some(file) = directory.companion("tokenizer.json") else {
            let kind = FormatErrorKind::Found { found: "is missing".into(), expected: "the model's tokenizer".into() };
            let error = FormatError::new(path.join("tokenizer.json"), kind);
            let slow = ["tokenizer.model", "vocab.json"].iter().any(|name| directory.companion(name).is_some());
            let hint = "make it from the files that are there: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)";
            return Err(if slow { error.hint(hint) } else { error }.into());
        };
        let mut tokenizer = Tokenizer::from_json(file, &map::read(file, MAX_TOKENIZER_BYTES)?)?;
        if let Some(config) = directory.companion("tokenizer_config.json") {
            tokenizer = tokenizer.with_config(config, &map::read(config, MAX_TOKENIZER_BYTES)?)?;
        }
        if tokenizer.chat_template().is_none()
            && let Some(template) = directory.companion("chat_template.jinja")
        {
            let bytes = map::read(template, MAX_TOKENIZER_BYTES)?;
            tokenizer = tokenizer.with_chat_template(String::from_utf8_lossy(&bytes).into_owned());
        }
        Self::new(name, path, loaded, tokenizer)
    }

    fn from_gguf(name: &str, path: &Path) -> Result<Self, Error> {
        let file = GgufModel::open(path)?;
        let loaded = from_gguf(&file)?;
        let tokenizer = Tokenizer::from_gguf(file.header())?;
        Self::new(name, path, loaded, tokenizer)
    }

    fn new(name: &str, path: &Path, loaded: Loaded, tokenizer: Tokenizer) -> Result<Self, Error> {
        tokenizer.check_rows(loaded.model.architecture.vocab)?;
        let Loaded { model, config, warnings, bytes } = loaded;
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            model,
            config,
            tokenizer,
            bytes,
            warnings,
            rewritten: false,
        })
    }

    /// The same function in other weights, see [`off_grid`]: what quantisers made of this model before leaves no trace.
    ///
    /// # Errors
    /// A weight that is not finite.
    pub fn off_grid(mut self, seed: u64) -> Result<Self, Error> {
        self.model = off_grid(&self.model, seed)?;
        self.rewritten = true;
        Ok(self)
    }

    /// The token that a text of its own begins with.
    pub fn first_token(&self) -> u32 {
        self.tokenizer.bos().or(self.tokenizer.eos()).unwrap_or(0)
    }

    /// Whether `token` ends a text or a turn.
    pub fn is_end(&self, token: u32) -> bool {
        self.tokenizer.eos() == Some(token) || self.tokenizer.eot() == Some(token) || self.config.eos.contains(&token)
    }

    /// The tokens of a prompt: plain text, or a user's message in the model's chat template.
    ///
    /// # Errors
    /// An empty prompt, a text that the tokenizer refuses, a chat prompt for a model without a template, a template that fails.
    pub fn prompt(&self, text: &str, chat: bool) -> Result<Vec<u32>, Error> {
        let tokens = if chat {
            let Some(source) = self.tokenizer.chat_template() else {
                return Err(Error::Refused(format!(
                    "{}: the model has no chat template; run without --chat",
                    self.name
                )));
            };
            let template = ChatTemplate::parse(self.tokenizer.file(), source)?;
            let special = |id: Option<u32>| {
                id.and_then(|id| self.tokenizer.token(id))
                    .map_or(String::new(), |bytes| String::from_utf8_lossy(bytes).into_owned())
            };
            let messages = [Message { role: "user".to_owned(), content: text.to_owned() }];
            let prompt =
                template.render(&messages, true, &special(self.tokenizer.bos()), &special(self.tokenizer.eos()))?;
            self.tokenizer.encode(&prompt, true)?
        } else {
            let mut tokens: Vec<u32> =
                if self.tokenizer.add_bos() { self.tokenizer.bos().into_iter().collect() } else { Vec::new() };
            tokens.extend(self.tokenizer.encode(text, false)?);
            tokens
        };
        if tokens.is_empty() {
            return Err(Error::Refused(match text {
                "" => "the prompt is empty; give at least one character".to_owned(),
                _ => format!("{}: the tokenizer makes no token of the prompt; give other text", self.name),
            }));
        }
        Ok(tokens)
    }
}

/// The GGUF file that the model called `name` is read from; nothing when it is not a GGUF file.
///
/// # Errors
/// There is no cache directory for a built-in model.
pub fn gguf_file(name: &str) -> Result<Option<PathBuf>, Error> {
    if let Some(model) = built_in::find(name) {
        return model.path().map(Some);
    }
    let path = Path::new(name);
    Ok((has_gguf_name(path) || is_gguf(path)).then(|| path.to_owned()))
}

fn has_gguf_name(path: &Path) -> bool {
    !path.is_dir() && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Whether the file begins as a GGUF file does.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    path.is_file()
        && std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic)).is_ok()
        && &magic == b"GGUF"
}
