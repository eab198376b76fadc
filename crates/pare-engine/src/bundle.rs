//! A model with everything needed to use it, opened by what the user typed.

use crate::progress::Work;
use crate::{Error, built_in};
use pare_format::chat::{ChatTemplate, Message};
use pare_format::config::ModelConfig;
use pare_format::directory::ModelDirectory;
use pare_format::gguf::GgufModel;
use pare_format::json::{Bounds, read_object};
use pare_format::map;
use pare_format::tokenizer::{Tokenizer, generation_ends};
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
    /// The directory or file that it was read from; the first part of a split model.
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
    /// The tokens at which a text or a turn ends, sorted.
    pub ends: Vec<u32>,
    /// Files beside the model that a rewritten model keeps as they are: how it is to be run, and its licence.
    pub kept: Vec<SideFile>,
}

/// A small file beside a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideFile {
    /// Its name, without folders.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The file that says how text is to be generated.
pub(crate) const GENERATION: &str = "generation_config.json";
/// Largest side file that is kept.
const MAX_SIDE_FILE: u64 = 4 << 20;

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
            return Err(directory.no_tokenizer().into());
        };
        let mut tokenizer = Tokenizer::from_json(file, &map::read(file, MAX_TOKENIZER_BYTES)?)?;
        if let Some(config) = directory.companion("tokenizer_config.json") {
            tokenizer = tokenizer.with_config(config, &map::read(config, MAX_TOKENIZER_BYTES)?)?;
        }
        // In the order of transformers: files of templates stand above what tokenizer_config.json says.
        if let Some(file) = directory.companion("chat_template.json")
            && tokenizer.chat_template().is_none()
        {
            tokenizer = match read_object(file, Bounds::CONFIG) {
                Ok(_) => tokenizer.with_config(file, &map::read(file, MAX_TOKENIZER_BYTES)?)?,
                Err(error) => tokenizer.with_warning(format!("{error}; the file is not used")),
            };
        }
        for template in directory.templates() {
            let path = template.path.display();
            let source = map::read(&template.path, MAX_TOKENIZER_BYTES)
                .map_err(|error| error.to_string())
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{path}: is not UTF-8")));
            tokenizer = match source {
                Ok(source) => tokenizer.with_named_template(&template.path, &template.name, source),
                Err(why) => tokenizer.with_warning(format!("{why}; the file is not used")),
            };
        }
        let mut bundle = Self::new(name, path, loaded, tokenizer)?;
        for file in directory.licences().iter().map(PathBuf::as_path).chain(directory.companion(GENERATION)) {
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
            match map::read(file, MAX_SIDE_FILE) {
                Ok(bytes) => bundle.kept.push(SideFile { name: name.to_owned(), bytes }),
                Err(error) => bundle.warnings.push(format!("{error}; the file is not used")),
            }
        }
        if let Some(file) = bundle.kept.iter().find(|file| file.name == GENERATION) {
            let (ends, warnings) =
                generation_ends(&path.join(GENERATION), &file.bytes, bundle.model.architecture.vocab);
            bundle.ends.extend(ends);
            bundle.warnings.extend(warnings);
        }
        bundle.ends.sort_unstable();
        bundle.ends.dedup();
        Ok(bundle)
    }

    fn from_gguf(name: &str, path: &Path) -> Result<Self, Error> {
        let file = GgufModel::open(path)?;
        let loaded = from_gguf(&file)?;
        let tokenizer = Tokenizer::from_gguf(file.header())?;
        // Any part names a split model; the first one stands for it.
        Self::new(name, file.header().file(), loaded, tokenizer)
    }

    fn new(name: &str, path: &Path, loaded: Loaded, tokenizer: Tokenizer) -> Result<Self, Error> {
        tokenizer.check_rows(loaded.model.architecture.vocab)?;
        let Loaded { model, config, mut warnings, bytes } = loaded;
        warnings.extend(tokenizer.warnings().iter().cloned());
        let mut ends = [tokenizer.ends(), config.eos.to_vec()].concat();
        ends.sort_unstable();
        ends.dedup();
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            model,
            config,
            tokenizer,
            bytes,
            warnings,
            rewritten: false,
            ends,
            kept: Vec::new(),
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
        self.ends.contains(&token)
    }

    /// The tokens of a prompt: plain text, or a user's message in the model's chat template.
    ///
    /// # Errors
    /// An empty prompt, a text that the tokenizer refuses, a chat prompt for a model without a template, a template that fails.
    pub fn prompt(&self, text: &str, chat: bool) -> Result<Vec<u32>, Error> {
        match chat {
            true => self.chat_prompt(&[Message { role: "user".to_owned(), content: text.to_owned() }]),
            false => self.raw_prompt(text, false),
        }
    }

    /// The tokens of a prompt without a template, between those that the model expects around a text. With `special`, text that spells a
    /// special token becomes that token.
    ///
    /// # Errors
    /// A prompt without tokens, a text that the tokenizer refuses.
    pub fn raw_prompt(&self, text: &str, special: bool) -> Result<Vec<u32>, Error> {
        some_tokens(text, self.tokenizer.encode_prompt(text, special)?)
    }

    /// The tokens of messages in the model's chat template, up to where the answer begins.
    ///
    /// # Errors
    /// A model without a template, a template that fails, a prompt without tokens.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        let Some(source) = self.tokenizer.chat_template() else {
            let others: Vec<&str> =
                self.tokenizer.specials().other_templates.iter().map(|other| other.name.as_str()).collect();
            let only = match others.is_empty() {
                true => String::new(),
                false => format!(" called \"default\", only {}", others.join(", ")),
            };
            let message = format!("{}: the model has no chat template{only}; run without --chat", self.name);
            return Err(Error::Refused(message));
        };
        let template = ChatTemplate::parse(self.tokenizer.template_file(), source)?.with_date(self.tokenizer.date());
        let special = |id: Option<u32>| {
            id.and_then(|id| self.tokenizer.token(id))
                .map_or(String::new(), |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let prompt = template.render(messages, true, &special(self.tokenizer.bos()), &special(self.tokenizer.eos()))?;
        some_tokens(&prompt, self.tokenizer.encode(&prompt, true)?)
    }

    /// Refuses a prompt that does not leave `room` tokens of the model's context.
    ///
    /// # Errors
    /// Both numbers.
    pub fn check_length(&self, prompt: &[u32], room: usize) -> Result<(), Error> {
        let (found, most) = (prompt.len(), self.model.architecture.context);
        if found + room <= most {
            return Ok(());
        }
        let holds = if self.config.context > most { "window, up to which pare runs it," } else { "context" };
        Err(Error::Refused(format!("the prompt has {found} tokens, the model's {holds} holds {most}")))
    }
}

/// The tokens of `text`, when there are any.
fn some_tokens(text: &str, tokens: Vec<u32>) -> Result<Vec<u32>, Error> {
    match (tokens.is_empty(), text.is_empty()) {
        (false, _) => Ok(tokens),
        (true, true) => Err(Error::Refused("the prompt is empty; give at least one character".to_owned())),
        (true, false) => {
            Err(Error::Refused("the tokenizer gives no tokens for the prompt; give other text".to_owned()))
        }
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
