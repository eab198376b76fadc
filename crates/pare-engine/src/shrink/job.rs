//! The job directory: finished blocks, so that a killed run goes on where it was and ends with the same bits.
//!
//! A block is one safetensors file and one JSON file, which is written last, in one step, with the hash of the first: a block is there
//! whole, or not at all. Weights that a run did not touch are not kept, they are in the model.

mod storage;

use crate::Error;
use crate::shrink::{Done, Encoded, Repair, Request};
use pare_format::safetensors::SafetensorsFile;
use pare_format::safetensors::write::SafetensorsWriter;
use pare_format::write::{NewFile, write_file_atomic};
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::plan::Edit;
use pare_model::site::Projection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use storage::{BlockTree, Reader, Writer};

const KEY: &str = "job.json";

/// Where the finished blocks of one run are.
#[derive(Debug)]
pub struct JobDirectory {
    path: PathBuf,
}

/// What stands beside the tensors of a block.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    sha256: String,
    block: BlockTree,
    edits: Vec<Edit>,
    repairs: Vec<Repair>,
    encoded: Vec<Encoded>,
}

/// The job directory of the output `target`, beside it.
pub fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().map_or_else(|| "out".into(), |name| name.to_string_lossy().into_owned());
    target.with_file_name(format!(".{name}.pare-job"))
}

impl JobDirectory {
    /// The directory `path`, as it is.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// How many bytes are there, as far as the system says.
    pub fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.path).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    }

    /// Opens the directory `path` for this run, and says how many blocks an earlier run of the same left there. What another run left is
    /// removed.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open(path: PathBuf, model: &Model, request: &Request<'_>) -> Result<(Self, usize), Error> {
        let key = key(model, request);
        let job = Self { path };
        let same = fs::read(job.path.join(KEY)).is_ok_and(|found| found == key.as_bytes());
        if !same {
            job.remove()?;
        }
        fs::create_dir_all(&job.path).map_err(|source| job.io(source))?;
        write_file_atomic(job.path.join(KEY), key.as_bytes())?;
        let finished = (0..model.blocks.len()).take_while(|&index| job.record(index).is_file()).count();
        Ok((job, finished))
    }

    /// Block `index` as an earlier run left it; none when it is not there, or not whole.
    ///
    /// # Errors
    /// The system refuses.
    pub fn load(&self, index: usize, original: &Block) -> Result<Option<Done>, Error> {
        let Ok(text) = fs::read(self.record(index)) else { return Ok(None) };
        let Ok(record) = serde_json::from_slice::<Record>(&text) else { return Ok(None) };
        let tensors = self.tensors(index);
        if hash(&tensors).ok().as_ref() != Some(&record.sha256) {
            return Ok(None);
        }
        Self::read(&tensors, original, record)
    }

    fn read(tensors: &Path, original: &Block, record: Record) -> Result<Option<Done>, Error> {
        let file = SafetensorsFile::open(tensors)?;
        let block = Reader { file: &file, original }.block(&record.block);
        Ok(block.map(|block| Done { block, edits: record.edits, repairs: record.repairs, encoded: record.encoded }))
    }

    /// Keeps block `index`, and gives it back with its weights in the file, not in memory.
    ///
    /// # Errors
    /// The system refuses.
    pub fn store(&self, index: usize, original: &Block, done: Done) -> Result<Done, Error> {
        let tensors = self.tensors(index);
        let mut writer = Writer::new(original);
        let Some(block) = writer.block(&done.block) else { return Ok(done) };
        let file = NewFile::in_own_folder(&tensors)?;
        let mut out = SafetensorsWriter::new(&tensors, file, writer.specs(), &[])?;
        writer.write(&mut out)?;
        out.finish()?.commit()?;
        let sha256 = hash(&tensors).map_err(|source| self.io(source))?;
        let Done { edits, repairs, encoded, .. } = done;
        let record = Record { sha256, block, edits, repairs, encoded };
        let text = serde_json::to_vec(&record).map_err(|error| self.io(error.into()))?;
        write_file_atomic(self.record(index), &text)?;
        let broken = || Error::Refused(format!("{}: block {index} does not read back", self.path.display()));
        Self::read(&tensors, original, record)?.ok_or_else(broken)
    }

    /// Removes the directory, when the result is in place.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(&self) -> Result<(), Error> {
        self.refuse_strangers()?;
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(self.io(error)),
            _ => Ok(()),
        }
    }

    /// Refuses a directory that holds anything but what a run keeps there.
    fn refuse_strangers(&self) -> Result<(), Error> {
        let own = |name: &str| {
            let block = name.strip_suffix(".json").or(name.strip_suffix(".safetensors"));
            let digits = |block: &str| block.len() >= 5 && block.bytes().all(|byte| byte.is_ascii_digit());
            name == KEY || name.contains(".partial-") || block.is_some_and(digits)
        };
        let Ok(entries) = fs::read_dir(&self.path) else { return Ok(()) };
        for entry in entries {
            let name = entry.map_err(|source| self.io(source))?.file_name();
            if !name.to_str().is_some_and(own) {
                let (path, name) = (self.path.display(), name.display());
                let why = "the finished blocks of a run would be kept there; move it away, or choose another output";
                return Err(Error::Refused(format!("{path}: holds {name}, which pare did not write; {why}")));
            }
        }
        Ok(())
    }

    fn record(&self, index: usize) -> PathBuf {
        self.path.join(format!("{index:05}.json"))
    }

    fn tensors(&self, index: usize) -> PathBuf {
        self.path.join(format!("{index:05}.safetensors"))
    }

    fn io(&self, source: std::io::Error) -> Error {
        Error::Io { path: self.path.display().to_string(), source }
    }
}

/// Everything that a result depends on.
fn key(model: &Model, request: &Request<'_>) -> String {
    let mut calibration = Sha256::new();
    for sequence in request.calibration {
        calibration.update((sequence.len() as u64).to_le_bytes());
        sequence.iter().for_each(|token| calibration.update(token.to_le_bytes()));
    }
    let biases: Vec<bool> = Projection::ALL.iter().map(|&projection| (request.bias_allowed)(projection)).collect();
    let key = serde_json::json!({
        "pare": env!("CARGO_PKG_VERSION"),
        "model": crate::fingerprint::fingerprint(model),
        "recipe": request.recipe,
        "keep": request.keep,
        "seed": request.seed,
        "calibration": format!("{:x}", calibration.finalize()),
        "biases": biases,
        "form": request.form.map(|form| format!("{form:?}")),
    });
    format!("{key:#}\n")
}

fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}
