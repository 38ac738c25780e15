"use strict";
// Asks for this page again every few seconds and takes over what has changed: what is open, focused
// or scrolled to stays as it is. Where the version is the same, nothing is sent back.
(() => {
  const EVERY = 5000;
  let asking = false;
  let lostSince = null;

  function morph(old, fresh) {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const named = new Map();
    for (const child of old.children) if (child.id) named.set(child.id, child);
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      let same = null;
      if (next.id) same = named.get(next.id) ?? null;
      else if (at && !at.id && at.nodeName === next.nodeName) same = at;
      if (same === null) {
        old.insertBefore(document.importNode(next, true), at);
        continue;
      }
      if (same === at) at = at.nextSibling;
      else old.insertBefore(same, at);
      if (same.nodeType === Node.ELEMENT_NODE) morph(same, next);
      else if (same.nodeValue !== next.nodeValue) same.nodeValue = next.nodeValue;
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      time.title = new Date(time.dateTime).toLocaleString();
    }
  }

  function statuses() {
    const found = new Map();
    for (const one of document.querySelectorAll("[data-status]")) {
      found.set(one.dataset.name, one.dataset.status);
    }
    return found;
  }

  function lost(words) {
    const notice = document.getElementById("lost");
    lostSince = words === null ? null : lostSince ?? new Date();
    const text = words === null ? "" :
      `${words} since ${lostSince.toLocaleTimeString()}: what is shown here is old.`;
    if (notice.textContent !== text) notice.textContent = text;
    notice.hidden = words === null;
  }

  async function renew() {
    if (asking || document.hidden) return;
    asking = true;
    try {
      const live = document.getElementById("live");
      const answer = await fetch(location.href, {
        headers: { "If-None-Match": live.dataset.version },
        cache: "no-store",
        signal: AbortSignal.timeout(20000),
      });
      if (answer.status === 304) return lost(null);
      if (!answer.ok) return lost(`callpath answers ${answer.status}`);
      // Without its head: the policy of this page has nothing to say for the other's style.
      const text = await answer.text();
      const body = text.slice(text.lastIndexOf("<body>"));
      const fresh = new DOMParser().parseFromString(body, "text/html").getElementById("live");
      if (fresh === null) return lost("Something else answers in the place of callpath");
      localTimes(fresh);
      const before = statuses();
      morph(live, fresh);
      document.title = fresh.dataset.title;
      const news = [...statuses()].filter(([name, status]) => before.get(name) !== status);
      if (news.length) {
        document.getElementById("news").textContent =
          news.map(([name, status]) => `${name}: now ${status}.`).join(" ");
      }
      lost(null);
    } catch {
      lost("callpath does not answer");
    } finally {
      asking = false;
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    localTimes(document);
    setInterval(renew, EVERY);
    document.addEventListener("visibilitychange", renew);
  });
})();
