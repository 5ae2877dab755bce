//! A real browser without a window: Chromium, driven by its driver.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use pactum_tests::wait::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use url::{ParseError, Url};

/// Where screenshots are put, for people to look at; unset: nowhere.
const SCREENSHOTS: &str = "PACTUM_TEST_SCREENSHOTS";

/// What kind of browser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) javascript: bool,
    pub(crate) dark: bool,
    /// In CSS pixels.
    pub(crate) width: u32,
}

impl Kind {
    pub(crate) const DESK: Self = Self { javascript: true, dark: false, width: 1280 };
    pub(crate) const PHONE: Self = Self { width: 360, ..Self::DESK };
}

/// A browser, its driver and its profile, all of which end with it.
pub(crate) struct Browser {
    pub(crate) client: Client,
    base: String,
    kind: Kind,
    _driver: Child,
    _profile: tempfile::TempDir,
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Browser({}, {:?})", self.base, self.kind)
    }
}

/// A command of the browser's own protocol, through its driver.
#[derive(Debug)]
struct DevTools {
    method: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _url: &Url) -> (http::Method, Option<String>) {
        let body = json!({"cmd": self.method, "params": self.parameters});
        (http::Method::POST, Some(body.to_string()))
    }
}

/// What the browser complained of since it was asked last.
#[derive(Debug)]
struct Complaints;

impl WebDriverCompatibleCommand for Complaints {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _url: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}

impl Browser {
    /// Opens one that looks at that address.
    pub(crate) async fn open(base: impl Into<String>, kind: Kind) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What it leaves behind goes with the profile.
            .env("TMPDIR", profile.path())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is installed (Debian: chromium-driver); tests/run does that");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("chromedriver says its port");
            let after = line.rsplit_once("started successfully on port ");
            if let Some((_, port)) = after {
                break port.trim_end_matches('.').parse::<u16>().unwrap();
            }
        };
        // Read to the end, or the driver would stop at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });

        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-gpu".to_owned(),
            // /dev/shm is small in containers.
            "--disable-dev-shm-usage".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--window-size=1280,900".to_owned(),
            format!("--user-data-dir={}", profile.path().join("profile").display()),
        ];
        if rustix::process::geteuid().is_root() {
            // Chromium refuses to be root in its sandbox.
            arguments.push("--no-sandbox".to_owned());
        }
        let options = json!({ "args": arguments });
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("it is an object") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        let browser = Self { client, base: base.into(), kind, _driver: driver, _profile: profile };
        let size =
            json!({"width": kind.width, "height": 800, "deviceScaleFactor": 1, "mobile": kind.width < 600});
        browser.tools("Emulation.setDeviceMetricsOverride", size).await;
        browser.dark(kind.dark).await;
        if !kind.javascript {
            browser.tools("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
        }
        browser
    }

    /// Has the browser's user prefer dark pages, or light ones.
    pub(crate) async fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.tools("Emulation.setEmulatedMedia", features).await;
    }

    async fn tools(&self, method: &'static str, parameters: Value) -> Value {
        self.client.issue_cmd(DevTools { method, parameters }).await.unwrap()
    }

    /// Goes to a page.
    pub(crate) async fn go(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.base)).await.unwrap();
    }

    /// The path that it is at, with its query.
    pub(crate) async fn path(&self) -> String {
        let url = self.client.current_url().await.unwrap();
        url.as_str().strip_prefix(&self.base).unwrap_or(url.as_str()).to_owned()
    }

    /// The text of the page's main part.
    pub(crate) async fn text(&self) -> String {
        // It may be replaced between being found and being read: then it is found again.
        eventually("the main part of a page", || async {
            self.client.find(Locator::Css("main")).await.ok()?.text().await.ok()
        })
        .await
    }

    /// Waits until the page says that.
    pub(crate) async fn says(&self, text: &str) {
        let waited = tokio::time::timeout(pactum_tests::wait::SOON, async {
            while !self.text().await.contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let in_time = waited.await.is_ok();
        assert!(in_time, "the page {} never said {text:?}:\n{}", self.path().await, self.text().await);
    }

    /// The first element of that selector; waits for it.
    pub(crate) async fn find(&self, css: &str) -> Element {
        eventually(css, || async { self.client.find(Locator::Css(css)).await.ok() }).await
    }

    /// How many there are.
    pub(crate) async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.unwrap().len()
    }

    /// Clicks the first element of that selector; once more, if the page was renewed in between.
    pub(crate) async fn click_on(&self, css: &str) {
        eventually(css, || async { self.client.find(Locator::Css(css)).await.ok()?.click().await.ok() })
            .await;
    }

    /// Clicks the link or button with that text.
    pub(crate) async fn click(&self, text: &str) {
        let path = format!("//a[normalize-space()='{text}'] | //button[normalize-space()='{text}']");
        let found = eventually(text, || async {
            self.client.find(Locator::XPath(&path)).await.ok()?.click().await.ok()
        });
        found.await;
    }

    /// Types into a field.
    pub(crate) async fn fill(&self, css: &str, text: &str) {
        eventually(css, || async {
            let field = self.client.find(Locator::Css(css)).await.ok()?;
            field.clear().await.ok()?;
            field.send_keys(text).await.ok()
        })
        .await;
    }

    /// Presses a key on the page itself.
    pub(crate) async fn press(&self, key: &str) {
        self.client.active_element().await.unwrap().send_keys(key).await.unwrap();
    }

    /// Runs a script in the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Keeps a picture of the whole page, if somebody wants to look.
    pub(crate) async fn picture(&self, name: &str) {
        use base64::Engine as _;
        let Some(directory) = std::env::var_os(SCREENSHOTS) else { return };
        let shot = self
            .tools("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}))
            .await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap());
        let directory = PathBuf::from(directory);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("{name}.png")), bytes.unwrap()).unwrap();
    }

    /// What scripts and policies complained of on the pages that were opened: nothing should be there
    /// that was not expected.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.client.issue_cmd(Complaints).await.unwrap();
        let entries = log.as_array().cloned().unwrap_or_default();
        let messages = entries.iter().filter_map(|entry| entry["message"].as_str().map(str::to_owned));
        // It also notes each answer that is no success; those are what the tests are about.
        messages.filter(|message| !message.contains("Failed to load resource")).collect()
    }

    /// Closes it.
    pub(crate) async fn close(self) {
        self.client.close().await.unwrap();
    }
}
