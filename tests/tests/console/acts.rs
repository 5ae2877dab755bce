//! Finding a transaction, reading why it waits, and ending it, or being refused.

use fantoccini::Locator;
use pactum_proto::v1;
use pactum_proto::v1::admin_service_client::AdminServiceClient;
use pactum_tests::cluster::config;
use pactum_tests::wait::eventually;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::browser::{Browser, Kind};
use crate::scene::Scene;

/// The last six digits of a gid: what is typed to confirm.
fn tail(gid: &str) -> &str {
    &gid[gid.len() - 6..]
}

/// Fills in the form of a plan as it asks for it, and sends it.
pub(crate) async fn confirm(browser: &Browser, reason: &str) {
    let wanted = browser.find("label[for=confirmation] code").await.text().await.unwrap();
    browser.fill("#reason", reason).await;
    browser.fill("#confirmation", &wanted).await;
    browser.click_on("form[action='/act'] button").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_in_doubt_is_found_and_its_reason_read_and_a_resolve_against_the_log_is_refused() {
    let scene = Scene::start().await;
    let gid = scene.in_doubt().await;
    let browser = Browser::open(scene.url(), Kind::DESK).await;

    browser.go("/").await;
    browser.says("Oldest in doubt").await;
    browser.says(tail(&gid)).await;
    browser.picture("overview").await;
    browser.go("/in-doubt").await;
    browser.says("bank-b").await;
    browser.picture("in-doubt").await;
    browser.click_on("[data-row]").await;
    browser.says("Why it waits").await;
    let text = browser.text().await;
    assert!(browser.path().await.contains(&gid), "{}", browser.path().await);
    assert!(text.contains("committing") && text.contains("bank-b"), "{text}");
    assert!(text.contains("app=pay"), "labels are shown: {text}");
    assert!(text.contains("attempt"), "{text}");
    assert!(browser.count("svg.timeline rect").await > 0, "its course is drawn: {text}");
    browser.picture("transaction").await;
    // What applications say is text, here as everywhere.
    assert_ne!(browser.client.title().await.unwrap(), "owned");

    browser.click("Resolve").await;
    browser.says("It would be refused").await;
    let text = browser.text().await;
    assert!(text.contains("PACTUM-0007"), "{text}");
    assert!(text.contains("pactum tx resolve"), "the same command to copy: {text}");
    assert_eq!(browser.count("form[action='/act']").await, 0, "nothing to send");
    browser.picture("plan-refused").await;
    browser.click("PACTUM-0007").await;
    browser.says("ALREADY_COMMITTED").await;

    scene.mend();
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
    scene.cluster.coordinator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undecided_transaction_is_resolved_by_plan_and_reason_and_the_audit_tells_it() {
    let scene = Scene::start().await;
    let pactum = scene.cluster.application().await;
    let (tx, gid) = scene.undecided(&pactum).await;
    let browser = Browser::open(scene.url(), Kind::DESK).await;
    browser.go(&format!("/act?do=resolve&gid={gid}")).await;
    browser.says("What would be done").await;
    assert!(browser.text().await.contains("pactum tx resolve"));
    browser.picture("plan").await;
    // Only looked at: a plan does nothing.
    browser.go(&format!("/transactions/{gid}")).await;
    browser.says("active").await;

    // Somebody who types something else has nothing done.
    browser.go(&format!("/act?do=resolve&gid={gid}")).await;
    browser.fill("#reason", "the application is gone").await;
    browser.fill("#confirmation", "000000").await;
    browser.click_on("form[action='/act'] button").await;
    browser.says("Nothing was done").await;
    let kept = browser.find("#reason").await.prop("value").await.unwrap();
    assert_eq!(kept.as_deref(), Some("the application is gone"), "what was typed is not lost");

    browser.fill("#who", "night shift").await;
    confirm(&browser, "the application is gone").await;
    browser.says("Done").await;
    let text = browser.text().await;
    assert!(text.contains("of the audit tells it"), "{text}");
    browser.picture("done").await;
    drop(tx);

    browser.go("/audit").await;
    browser.says("resolve").await;
    let text = browser.text().await;
    assert!(text.contains("the application is gone") && text.contains("night shift"), "{text}");
    assert!(text.contains("begun") && text.contains("done"), "{text}");
    browser.picture("audit").await;
    browser.click("Verify the chain").await;
    browser.says("The audit is whole").await;
    browser.picture("audit-verified").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
    scene.cluster.coordinator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_the_state_has_left_behind_is_refused_with_what_changed() {
    let scene = Scene::start().await;
    let pactum = scene.cluster.application().await;
    let (tx, gid) = scene.undecided(&pactum).await;
    let browser = Browser::open(scene.url(), Kind::DESK).await;
    browser.go(&format!("/act?do=resolve&gid={gid}")).await;
    browser.says("What would be done").await;
    // While the operator reads, the application asks for commit, and it is decided; bank-b is away, so
    // that it is not over yet.
    scene.database.arm(pactum_tests::faults::Cut::Outage, "COMMIT PREPARED");
    let (outcome, ()) = futures::join!(async { tx.commit().wait_decision().await }, scene.database.fired(1));
    assert!(outcome.unwrap().is_committed());
    confirm(&browser, "too late").await;
    browser.says("The state has changed since you looked").await;
    browser.says("It would be refused").await;
    let changed = browser.find("#changed").await.text().await.unwrap();
    assert!(changed.contains("the log says commit"), "what is new is told: {changed}");
    assert!(!changed.contains("its coordinator is this one"), "and only that: {changed}");
    browser.picture("plan-changed").await;
    scene.mend();
    browser.close().await;
    scene.cluster.coordinator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_javascript_everything_can_be_read_and_done() {
    let scene = Scene::start().await;
    let pactum = scene.cluster.application().await;
    let (tx, gid) = scene.undecided(&pactum).await;
    let browser = Browser::open(scene.url(), Kind { javascript: false, ..Kind::DESK }).await;
    browser.go("/transactions").await;
    browser.says(tail(&gid)).await;
    // Proof that no script runs: what only a script serves stays hidden.
    assert!(!browser.find("#pause").await.is_displayed().await.unwrap());
    browser.fill("#filter", "name=nothing-of-that-name").await;
    browser.click("Show").await;
    browser.says("No transaction fits").await;
    browser.fill("#filter", "unknown-key=1").await;
    browser.click("Show").await;
    browser.says("PACTUM-0001").await;
    // Its name and labels come with the request to commit, which nobody has made yet.
    browser.fill("#filter", "resource=bank-a state=active").await;
    browser.click("Show").await;
    browser.says(tail(&gid)).await;
    browser.click_on("[data-row]").await;
    browser.says("What can be done").await;
    browser.click("Ask the databases").await;
    browser.says("open, not prepared").await;
    browser.click("Resolve").await;
    confirm(&browser, "by hand, without a script").await;
    browser.says("of the audit tells it").await;
    drop(tx);
    browser.close().await;
    scene.cluster.coordinator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_page_follows_what_happens_and_can_be_paused() {
    let scene = Scene::start().await;
    let pactum = scene.cluster.application().await;
    let browser = Browser::open(scene.url(), Kind::DESK).await;
    browser.go("/transactions").await;
    browser.says("No transaction fits").await;
    browser.run("window.untouched = true").await;
    let (first, gid) = scene.undecided(&pactum).await;
    browser.says(tail(&gid)).await;
    assert_eq!(browser.run("return window.untouched").await, json!(true), "the page was not loaded again");

    browser.press("p").await;
    let (second, later) = scene.undecided(&pactum).await;
    let mut admin = AdminServiceClient::connect(scene.url()).await.unwrap();
    let listed = admin.list_transactions(v1::ListTransactionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().transactions.len(), 2);
    assert!(!browser.text().await.contains(tail(&later)), "it is paused");
    browser.press("p").await;
    browser.says(tail(&later)).await;

    // Keys: down the list, and to the conditions.
    browser.press("j").await;
    browser.press("j").await;
    let active = browser.client.active_element().await.unwrap();
    assert!(active.attr("data-row").await.unwrap().is_some());
    assert!(active.attr("href").await.unwrap().unwrap().contains(&gid), "the older one is the second");
    browser.press("/").await;
    let active = browser.client.active_element().await.unwrap();
    assert_eq!(active.attr("id").await.unwrap().as_deref(), Some("filter"));
    // Whoever is typing loses nothing to an update.
    browser.fill("#filter", "name=tr").await;
    first.abort().await.unwrap();
    eventually("the page telling that it has changed", || async {
        let live = browser.client.find(Locator::Css("#live")).await.ok()?.text().await.ok()?;
        live.contains("Changed since").then_some(())
    })
    .await;
    let typed = browser.find("#filter").await.prop("value").await.unwrap();
    assert_eq!(typed.as_deref(), Some("name=tr"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    second.abort().await.unwrap();
    browser.close().await;
    scene.cluster.coordinator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_are_retried_at_once_and_a_viewer_may_look_and_not_act() {
    let (operator, viewer) = ("operator-".repeat(6), "viewer-".repeat(6));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.toml");
    let entry = |name: &str, role: &str, token: &str| {
        let hash = Sha256::digest(token.as_bytes());
        let hash = hash.iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
        format!("[[token]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"\n")
    };
    std::fs::write(&path, entry("alice", "operator", &operator) + &entry("wall", "viewer", &viewer)).unwrap();
    // Looking from here on needs a token, so what waits is looked for before.
    let scene = Scene::start().await;
    let gid = scene.in_doubt().await;
    let guarded = pactum_tests::cluster::Cluster::start_on(
        &scene.cluster.log_url,
        pactum_coordinator::Config { admin_tokens: Some(path), ..config() },
    )
    .await;
    drop(gid);
    let browser = Browser::open(guarded.coordinator.admin_url(), Kind::DESK).await;

    browser.go("/in-doubt").await;
    browser.says("Log in").await;
    browser.picture("login").await;
    browser.fill("#token", "not-a-token-of-anybody-at-all-0123456789").await;
    browser.click("Log in").await;
    browser.says("This token is not known.").await;
    browser.fill("#token", &viewer).await;
    browser.click("Log in").await;
    browser.says("In doubt").await;
    assert!(browser.path().await.starts_with("/in-doubt"), "back to where he wanted to go");
    browser.go("/act?do=release").await;
    browser.picture("plan-viewer").await;
    assert_eq!(browser.count("form[action='/act']").await, 0);
    // The form that is not shown is refused as well.
    let sent = browser
        .run(
            "const seal = document.querySelector('input[name=seal]').value;
             const body = new URLSearchParams({do: 'release', incarnation: '', seal, reason: 'x', confirmation: 'x', plan_hash: 'x'});
             return fetch('/act', {method: 'POST', body}).then(r => r.status)",
        )
        .await;
    assert!(matches!(sent.as_u64(), Some(400..=499)), "{sent}");
    browser.click("Log out").await;
    browser.says("Log in").await;
    browser.go("/").await;
    browser.says("Log in").await;
    browser.close().await;
    guarded.coordinator.stop().await.unwrap();

    // Where no token is asked for, the bulk retry: tick, plan, confirm, and see what came of each.
    let browser = Browser::open(scene.url(), Kind::DESK).await;
    browser.go("/in-doubt").await;
    browser.click_on("input[name=gid]").await;
    browser.click("Plan a retry of those chosen").await;
    browser.says("Retry 1 transaction now").await;
    browser.fill("#reason", "the bank is back").await;
    browser.fill("#confirmation", "retry 1").await;
    browser.picture("many").await;
    browser.click_on("form[action='/act/retry-many'] button").await;
    browser.says("1 of 1 were told to try now").await;
    browser.picture("many-done").await;
    scene.mend();
    browser.close().await;
    scene.cluster.coordinator.stop().await.unwrap();
}
