//! shim
use crate::Result;
use std::path::Path;
/// shim
pub struct ChatTemplate;
/// shim
pub struct Message { /// role
 pub role: String, /// content
 pub content: String }
impl ChatTemplate { /// parse
 pub fn parse(_: &Path, _: &str) -> Result<Self> { Ok(Self) } /// render
 pub fn render(&self, m: &[Message], _g: bool, _b: &str, _e: &str) -> Result<String> { Ok(format!("<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", m[0].content)) } }
