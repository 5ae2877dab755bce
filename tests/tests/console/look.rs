//! How the pages look: on a phone, in the dark, and to eyes that need contrast.

use crate::browser::{Browser, Kind};
use crate::scene::Scene;

/// Every page that has something of its own to show.
fn pages(gid: &str) -> Vec<(&'static str, String)> {
    vec![
        ("overview", "/".to_owned()),
        ("transactions", "/transactions".to_owned()),
        ("in-doubt", "/in-doubt".to_owned()),
        ("transaction", format!("/transactions/{gid}?examine=1")),
        ("stuck", "/stuck?all=1".to_owned()),
        ("participants", "/participants".to_owned()),
        ("heuristics", "/heuristics".to_owned()),
        ("audit", "/audit".to_owned()),
        ("configuration", "/configuration".to_owned()),
        ("help", "/help".to_owned()),
        ("plan-retry", format!("/act?do=retry&gid={gid}")),
        ("plan-overrule", format!("/act?do=overrule-rollback&gid={gid}&resource=bank-b")),
        ("not-found", "/nothing/here".to_owned()),
    ]
}

/// Computes, for each text that is seen, its contrast against what is behind it (WCAG 2.1, section
/// 1.4.3), and answers those that have too little: 4.5, or 3 for large text.
const CONTRAST: &str = r"
    const channel = (value) => {
        value /= 255;
        return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    };
    const colour = (text) => text.match(/[\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const [r, g, b, alpha = 1] = colour(getComputedStyle(at).backgroundColor);
            if (alpha === 1) return [r, g, b];
            if (alpha !== 0) throw new Error('a ground that is partly seen through');
        }
        throw new Error('no ground at all');
    };
    const poor = [];
    let seen = 0;
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        const element = node.parentElement;
        const style = getComputedStyle(element);
        const box = element.getBoundingClientRect();
        if (!node.data.trim() || box.width <= 1 || box.right < 0 || style.visibility === 'hidden') continue;
        if (element.closest('svg') && element.tagName === 'title') continue;
        const front = colour(element.closest('svg') ? style.fill : style.color);
        const behind = ground(element.closest('svg') ? element.closest('svg').parentElement : element);
        const [bright, dim] = [luminance(front), luminance(behind)].sort((a, b) => b - a);
        const contrast = (bright + 0.05) / (dim + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        seen += 1;
        if (contrast < (large ? 3 : 4.5)) {
            poor.push(`${contrast.toFixed(2)}: ${node.data.trim().slice(0, 40)} (${front} on ${behind})`);
        }
    }
    return {seen, poor};
";

/// What hides when a page is wider than its window.
const WIDER: &str = r"
    const width = document.documentElement.clientWidth;
    // Heads of tables are there for those who listen, and cut off for those who see.
    const outside = [...document.querySelectorAll('main *:not(thead, thead *)')]
        .filter((one) => {
            const scroll = one.closest('.scroll');
            return !scroll || scroll === one || getComputedStyle(scroll).overflowX === 'visible';
        })
        .filter((one) => one.getBoundingClientRect().right > width + 1)
        .map((one) => one.tagName + '.' + one.className + ': ' + one.textContent.trim().slice(0, 40));
    return {scrolls: document.documentElement.scrollWidth > width, width, outside};
";

/// Whether everything that can be used has a name, and the page its landmarks.
const NAMED: &str = r"
    const nameless = [...document.querySelectorAll('a, button, input:not([type=hidden]), select, textarea')]
        .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length))
        .map((one) => one.outerHTML.slice(0, 80));
    const needed = ['main', 'header', 'nav[aria-label]', 'h1', 'a.skip', 'html[lang]'];
    const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
    return {
        nameless,
        missing: needed.filter((css) => document.querySelectorAll(css).length < 1),
        heads: document.querySelectorAll('h1').length,
        twice: ids.filter((id, at) => ids.indexOf(id) !== at),
    };
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_has_contrast_in_light_and_dark_and_names_and_landmarks() {
    let scene = Scene::start().await;
    let gid = scene.in_doubt().await;
    let browser = Browser::open(scene.url(), Kind::DESK).await;
    for (name, path) in pages(&gid) {
        browser.go(&path).await;
        let named = browser.run(NAMED).await;
        for list in ["nameless", "missing", "twice"] {
            assert_eq!(named[list], serde_json::json!([]), "{name}: {list}");
        }
        assert_eq!(named["heads"], 1, "{name}");
        for dark in [false, true] {
            browser.dark(dark).await;
            let contrast = browser.run(CONTRAST).await;
            assert!(contrast["seen"].as_u64().unwrap() > 10, "{name}: nothing was seen");
            assert_eq!(contrast["poor"], serde_json::json!([]), "{name}, dark: {dark}");
            browser.picture(&format!("{}-{name}", if dark { "dark" } else { "light" })).await;
        }
    }
    // The two are not the same picture.
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let dark = browser.run(ground).await;
    browser.dark(false).await;
    assert_ne!(browser.run(ground).await, dark);
    scene.mend();
    browser.close().await;
    scene.cluster.coordinator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_phone_no_page_is_wider_than_the_phone() {
    let scene = Scene::start().await;
    let gid = scene.in_doubt().await;
    let browser = Browser::open(scene.url(), Kind::PHONE).await;
    for (name, path) in pages(&gid) {
        browser.go(&path).await;
        let wider = browser.run(WIDER).await;
        assert_eq!(wider["width"], 360, "{name}: the phone is one");
        assert_eq!(wider["scrolls"], false, "{name}: {wider}");
        assert_eq!(wider["outside"], serde_json::json!([]), "{name}");
        browser.picture(&format!("phone-{name}")).await;
    }
    scene.mend();
    browser.close().await;
    scene.cluster.coordinator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_focus_is_seen_wherever_it_goes() {
    let scene = Scene::start().await;
    let browser = Browser::open(scene.url(), Kind::DESK).await;
    browser.go("/transactions").await;
    for step in 0..16 {
        browser.press("\u{E004}").await;
        let outline = browser
            .run(
                "const style = getComputedStyle(document.activeElement);
                 return [document.activeElement.tagName, style.outlineStyle, parseFloat(style.outlineWidth)]",
            )
            .await;
        if outline[0] == "BODY" {
            break;
        }
        assert!(outline[1] == "solid" && outline[2].as_f64().unwrap() >= 2.0, "after {step} tabs: {outline}");
    }
    // The first of them leads past the navigation.
    browser.go("/transactions").await;
    browser.press("\u{E004}").await;
    let first = browser.client.active_element().await.unwrap();
    assert_eq!(first.text().await.unwrap(), "Skip to content");
    browser.close().await;
    scene.cluster.coordinator.stop().await.unwrap();
}
