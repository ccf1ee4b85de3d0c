"use strict";
// Keeps the page as it would be if it were loaded anew. Without this script all of it works, but for
// that, for copying commands and for pausing.
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  root.classList.add("js");

  document.addEventListener("click", async (e) => {
    const button = e.target.closest(".copy");
    if (!button) return;
    const code = button.previousElementSibling;
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      button.textContent = "selected"; // browsers give pages without TLS no clipboard
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });

  const pause = byId("pause");
  if (!pause) return;

  // morph makes a what b is, and leaves alone what is the same: a selection, the focus, a place to
  // which somebody has scrolled.
  const morph = (a, b) => {
    if (a.nodeType !== b.nodeType || a.nodeName !== b.nodeName) {
      a.replaceWith(b);
      return;
    }
    if (a.nodeType !== Node.ELEMENT_NODE) {
      if (a.nodeValue !== b.nodeValue) a.nodeValue = b.nodeValue;
      return;
    }
    for (const { name } of [...a.attributes]) if (!b.hasAttribute(name)) a.removeAttribute(name);
    for (const { name, value } of b.attributes) if (a.getAttribute(name) !== value) a.setAttribute(name, value);
    children(a, b);
  };
  const children = (a, b) => {
    const [old, fresh] = [[...a.childNodes], [...b.childNodes]];
    fresh.forEach((node, i) => (i < old.length ? morph(old[i], node) : a.append(node)));
    old.slice(fresh.length).forEach((node) => node.remove());
  };

  let source, heard, build, broken = false;
  const lost = () => {
    if (broken) return;
    broken = true;
    root.classList.add("lost");
    byId("lost").textContent = "No answer from this node since " + document.querySelector(".asof time").textContent +
      ". What is below is older. Trying again; the other members have this page, too.";
    document.title = "NO ANSWER · " + document.title.replace(/^.*? · /, "");
  };
  const take = (e) => {
    const news = JSON.parse(e.data);
    if (build && build !== news.build) return location.reload();
    build = news.build;
    heard = Date.now();
    if (broken) {
      broken = false;
      root.classList.remove("lost");
      byId("lost").textContent = "";
    }
    document.title = news.title;
    if (byId("icon").getAttribute("href") !== news.icon) byId("icon").setAttribute("href", news.icon);
    root.className = "js " + news.class;
    byId("verdict").className = "verdict " + news.class;
    const time = document.querySelector(".asof time");
    time.dateTime = news.stamp;
    time.textContent = news.clock;
    for (const [id, html] of Object.entries(news.parts)) {
      const holder = document.createElement("template");
      holder.innerHTML = html;
      children(byId(id), holder.content);
    }
  };
  const stop = () => {
    if (source) source.close();
    source = undefined;
    byId("link").textContent = "";
  };
  const start = () => {
    if (source || document.hidden || pause.getAttribute("aria-pressed") === "true") return;
    heard = Date.now();
    source = new EventSource("/-/ui/live");
    source.addEventListener("page", take);
    source.onopen = () => { byId("link").textContent = "live"; };
    source.onerror = () => {
      byId("link").textContent = "";
      if (source.readyState === EventSource.CLOSED) { // an answer that was no stream
        stop();
        setTimeout(start, 2000);
      }
    };
  };
  setInterval(() => {
    if (source && Date.now() - heard > 6000) lost();
  }, 1000);
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", paused);
    paused ? stop() : start();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  start();
})();
