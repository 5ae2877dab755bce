// Makes the pages live, and quicker to use by keyboard. Every page works without it.
"use strict";

(() => {
  const main = () => document.getElementById("main");
  const status = document.getElementById("live");
  const pauseButton = document.getElementById("pause");
  let source = null;
  let paused = false;

  // --- Following what changes -----------------------------------------------------------------

  function tell(text, on) {
    if (!status) return;
    status.textContent = text;
    status.classList.toggle("on", on);
    status.classList.toggle("off", !on);
  }

  function since() {
    return "as of " + new Date().toISOString().slice(11, 19) + " UTC";
  }

  // Whoever is typing, or has chosen something, is not to lose it.
  function busy() {
    const active = document.activeElement;
    const typing = active && main().contains(active) && active.matches("input, textarea, select");
    return typing || main().querySelector("input[name=gid]:checked") !== null;
  }

  async function renew() {
    if (busy()) {
      tell("Changed since you looked; refresh to see it", false);
      return;
    }
    let response;
    try {
      response = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
    } catch {
      tell("Not reached; trying again", false);
      return;
    }
    if (response.type === "opaqueredirect") {
      location.reload();
      return;
    }
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const next = page.getElementById("main");
    if (!next) return;
    const old = main();
    // Focus, opened details and the place on the page stay where they were.
    const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
    const opened = [...old.querySelectorAll("details")].map((one) => one.open);
    const sideways = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    const top = scrollY;
    old.replaceWith(next);
    [...next.querySelectorAll("details")].forEach((one, at) => { if (at < opened.length) one.open = opened[at]; });
    [...next.querySelectorAll(".scroll")].forEach((one, at) => { one.scrollLeft = sideways[at] || 0; });
    if (focused) {
      const again = [...next.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === focused);
      if (again) again.focus({ preventScroll: true });
    }
    scrollTo(scrollX, top);
    prepare(next);
    tell("Live, " + since(), true);
  }

  function follow() {
    const address = main().dataset.live;
    if (!address || paused || source || !window.EventSource || document.hidden) return;
    source = new EventSource(address);
    source.onopen = () => tell("Live, " + since(), true);
    source.addEventListener("changed", renew);
    source.onerror = () => {
      const ended = source && source.readyState === EventSource.CLOSED;
      tell(ended ? "Not live; use the link" : "Not reached; trying again", false);
      if (ended) source = null;
    };
  }

  function unfollow() {
    if (source) source.close();
    source = null;
  }

  function pause() {
    paused = !paused;
    pauseButton.textContent = paused ? "Go on with updates" : "Pause updates";
    if (paused) {
      unfollow();
      tell("Paused, " + since(), false);
    } else {
      // What changed meanwhile: the page still names the state that it shows.
      follow();
    }
  }

  // Browsers keep few connections open to one host: pages that nobody sees leave theirs.
  document.addEventListener("visibilitychange", () => (document.hidden ? unfollow() : follow()));

  // --- Keys -----------------------------------------------------------------------------------

  function move(by) {
    const rows = [...document.querySelectorAll("[data-row]")];
    if (rows.length === 0) return;
    const at = rows.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1);
    rows[next].focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const keys = {
      "/": () => {
        const search = document.querySelector("[data-search]");
        if (search) search.focus();
        else location.assign("/transactions");
      },
      j: () => move(1),
      k: () => move(-1),
      p: () => { if (pauseButton && !pauseButton.hidden) pause(); },
      "?": () => location.assign("/help#keys"),
    };
    const act = keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  // --- Buttons that only a script can serve -----------------------------------------------------

  async function copy(button) {
    const from = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(from.textContent);
      button.textContent = "Copied";
    } catch {
      // Not allowed here (plain HTTP from another machine): it is selected instead.
      getSelection().selectAllChildren(from);
      button.textContent = "Selected";
    }
  }

  function prepare(root) {
    for (const button of root.querySelectorAll("[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", () => copy(button));
    }
    for (const button of root.querySelectorAll("[data-choose-all]")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        const boxes = [...root.querySelectorAll("input[name=gid]")].slice(0, 50);
        const all = boxes.every((box) => box.checked);
        boxes.forEach((box) => { box.checked = !all; });
      });
    }
    for (const form of root.querySelectorAll("form[data-once]")) {
      form.addEventListener("submit", () => {
        const button = form.querySelector("button");
        setTimeout(() => { button.disabled = true; });
      });
    }
  }

  prepare(document);
  if (pauseButton && main().dataset.live && window.EventSource) {
    pauseButton.hidden = false;
    pauseButton.addEventListener("click", pause);
    follow();
  }
})();
