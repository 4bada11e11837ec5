//! A real browser, told what to do by its driver (WebDriver, W3C): Debian's `chromium` and `chromium-driver`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::wait::{PATIENCE, wait_within};

/// No window, no sandbox (tests are root in containers), nothing that speaks with its maker, few files.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// A browser with one window, which ends with this.
#[derive(Debug)]
pub struct Browser {
    driver: Process,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; `None`, said on standard output, where none is installed.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub fn start(further: &[&str]) -> Option<Self> {
        if ["chromedriver", "chromium"]
            .iter()
            .any(|name| Command::new(name).arg("--version").output().is_err())
        {
            println!("SKIPPED: without chromium and chromium-driver (Debian) nobody looks at the page here");
            return None;
        }
        let profile = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("chromedriver");
        // Where it is a user's own, it is not touched.
        command.arg("--port=0").env("HOME", profile.path());
        let driver = Process::start(&mut command);
        let said = driver.wait_for_stdout("started successfully on port ");
        let port = said.rsplit("port ").next().and_then(|port| port.trim_end_matches('.').parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {said:?}"));
        let own = format!("--user-data-dir={}", profile.path().join("profile").display());
        let arguments: Vec<&str> = ARGUMENTS.iter().chain(further).copied().chain([own.as_str()]).collect();
        let options = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" } });
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let made = browser.tell("POST", "/session", &json!({ "capabilities": { "alwaysMatch": options } }));
        let id = made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}"));
        browser.session = format!("/session/{id}");
        Some(browser)
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        self.within("/url", &json!({ "url": url }));
    }

    /// Runs a script in the page, and yields what it returns.
    pub fn run(&self, script: &str, arguments: Value) -> Value {
        self.within("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Runs a script that calls its last argument with what it has found.
    pub fn run_async(&self, script: &str, arguments: Value) -> Value {
        self.within("/execute/async", &json!({ "script": script, "args": arguments }))
    }

    /// Waits until a script returns something that is neither null nor false, and yields that.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for(&self, what: &str, script: &str) -> Value {
        self.wait_within(PATIENCE, what, script)
    }

    /// The same, for so long.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_within(&self, time: Duration, what: &str, script: &str) -> Value {
        wait_within(time, what, || {
            Some(self.run(script, json!([])))
                .filter(|found| !matches!(found, Value::Null | Value::Bool(false)))
        })
    }

    /// A command of the browser's own protocol.
    pub fn developer(&self, command: &str, parameters: Value) -> Value {
        self.within("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Makes the window so wide, and the user prefer the dark, or not.
    pub fn look(&self, width: u32, is_dark: bool) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.developer("Emulation.setDeviceMetricsOverride", size);
        let scheme =
            json!({ "name": "prefers-color-scheme", "value": if is_dark { "dark" } else { "light" } });
        self.developer("Emulation.setEmulatedMedia", json!({ "features": [scheme] }));
    }

    /// A picture (PNG) of all of the page, as high as it is.
    ///
    /// # Panics
    /// When there is none.
    pub fn picture(&self) -> Vec<u8> {
        let taken = self.developer("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        from_base64(taken["data"].as_str().expect("a picture"))
    }

    /// Lines that the page wrote to its console, or the browser about the page.
    pub fn console(&self) -> Vec<String> {
        let lines = self.within("/se/log", &json!({ "type": "browser" }));
        lines.as_array().into_iter().flatten().map(Value::to_string).collect()
    }

    fn within(&self, path: &str, body: &Value) -> Value {
        self.tell("POST", &format!("{}{path}", self.session), body)
    }

    fn tell(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let answered = self.exchange(method, path, &body).unwrap_or_else(|error| panic!("{path}: {error}"));
        let answered: Value =
            serde_json::from_str(&answered).unwrap_or_else(|_| panic!("{path}: {answered}"));
        assert!(answered["value"]["error"].is_null(), "{path} {body}: {answered}");
        answered["value"].clone()
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(2 * PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap_or(0);
                }
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// Bytes of a text in base64 (RFC 4648), which is taken to be one.
fn from_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let values = text.bytes().filter_map(|byte| ALPHABET.iter().position(|known| *known == byte));
    let (mut bytes, mut bits, mut kept) = (Vec::with_capacity(text.len() * 3 / 4), 0_u32, 0);
    for value in values {
        bits = bits << 6 | value as u32;
        kept += 6;
        if kept >= 8 {
            kept -= 8;
            bytes.push((bits >> kept) as u8);
        }
    }
    bytes
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // The driver ends the browser, and then itself.
            let _ = self.exchange("DELETE", &self.session.clone(), "");
        }
        self.driver.kill();
    }
}
