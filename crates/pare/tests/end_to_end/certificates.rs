//! Whose certificates the program trusts: a hub behind an authority that only its network knows.

use crate::program::pare;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// A hub over TLS that has no model; it prints its port.
const HUB: &str = "
import http.server, ssl, sys
class Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(('localhost', 0), Empty)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";

struct Hub(Child);

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_network_with_an_authority_of_its_own_is_reached_when_its_certificates_are_named() {
    let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/localhost.pem");
    let python = std::env::var_os("PARE_PYTHON_NUMPY").expect("PARE_PYTHON_NUMPY is not set: run cargo xtask test");
    let mut hub = Hub(Command::new(python).args(["-c", HUB, pem]).stdout(Stdio::piped()).spawn().unwrap());
    let mut port = String::new();
    BufReader::new(hub.0.stdout.take().unwrap()).read_line(&mut port).unwrap();

    let cache = tempfile::tempdir().unwrap();
    let pull = || {
        let pare = pare(["pull", "tiny/llama"]).env("HF_ENDPOINT", format!("https://localhost:{}", port.trim()));
        pare.env("HF_HUB_CACHE", cache.path()).without_env("SSL_CERT_FILE").without_env("SSL_CERT_DIR")
    };
    // An answer of the hub, over TLS.
    pull().env("SSL_CERT_FILE", pem).refuses(&["tiny/llama", "404"]);
    let unknown = pull().run();
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    for part in ["cannot be reached", "invalid peer certificate", "SSL_CERT_FILE"] {
        assert!(unknown.stderr.contains(part), "{part:?}: {unknown:?}");
    }
    assert_eq!(unknown.stderr.matches("cannot be reached").count(), 1, "{unknown:?}");
    pull().env("SSL_CERT_FILE", "/none.pem").refuses(&["SSL_CERT_FILE", "/none.pem"]);
}
