
"use strict";
(() => {
  const all = (where, what) => Array.from(where.querySelectorAll(what));
  const reveal = (node) => {
    for (let at = node; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") at.open = true;
      if (at.hidden && at.hasAttribute("data-find")) at.hidden = false;
    }
  };

  // links: #site=PATH, and the names of sections
  const go = () => {
    const raw = location.hash.slice(1);
    if (!raw) return;
    let name = raw;
    try { name = decodeURIComponent(raw); } catch (error) { name = raw; }
    const path = name.startsWith("site=") ? name.slice(5) : null;
    const node = document.getElementById(raw) || document.getElementById(name)
      || (path !== null && all(document, "[data-site]").find((one) => one.dataset.site === path));
    if (!node) return;
    reveal(node);
    all(document, ".hit").forEach((one) => one.classList.remove("hit"));
    node.classList.add("hit");
    node.scrollIntoView({ block: "start" });
    const target = node.matches("details") ? node.querySelector("summary") : node;
    if (!target.matches("summary, a, button, input")) target.tabIndex = -1;
    target.focus({ preventScroll: true });
  };
  addEventListener("hashchange", go);

  // a drawing wider than the page shows its middle: the site
  for (const drawing of all(document, ".flow")) {
    const frame = drawing.parentElement;
    frame.scrollLeft = (frame.scrollWidth - frame.clientWidth) / 2;
  }

  // search: items that do not match are hidden, folded ones that do are opened
  const form = document.querySelector("form.search");
  const input = form && form.querySelector("input");
  const said = form && form.querySelector("output");
  let items = null;
  let opened = [];
  const text = (node) => {
    if (node.dataset.path === undefined) return node.textContent.toLowerCase();
    const row = node.firstElementChild.matches(".row") ? node.firstElementChild : node.firstElementChild.firstElementChild;
    return `${node.dataset.path} ${row.textContent}`.toLowerCase();
  };
  const search = () => {
    items = items || all(document, "[data-find]").map((node) => [node, text(node)]);
    const wanted = input.value.trim().toLowerCase();
    opened.forEach((node) => { node.open = false; });
    opened = [];
    if (!wanted) {
      items.forEach(([node]) => { node.hidden = false; });
      said.textContent = "";
      return;
    }
    const found = new Set();
    let count = 0;
    for (const [node, words] of items) {
      if (!words.includes(wanted)) continue;
      count += 1;
      for (let at = node; at && !found.has(at); at = at.parentElement) {
        found.add(at);
        const holds = at !== node && at.tagName === "DETAILS" && !at.open;
        if (holds && count <= 200) { at.open = true; opened.push(at); }
      }
    }
    items.forEach(([node]) => { node.hidden = !found.has(node); });
    said.textContent = `${count.toLocaleString("en")} of ${items.length.toLocaleString("en")} match`;
  };
  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const first = all(document, "[data-find]").find((node) => !node.hidden && input.value);
      if (first) first.scrollIntoView({ block: "center" });
    });
    let waiting = 0;
    input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });
    addEventListener("keydown", (event) => {
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) { event.preventDefault(); input.focus(); }
      if (event.key === "Escape" && event.target === input) { input.value = ""; search(); }
    });
  }

  // keys in the trees: up and down to the next line that is shown, right and left to open and close
  all(document, ".tree").forEach((tree) => {
    tree.addEventListener("keydown", (event) => {
      const now = event.target.closest("summary");
      if (!now || !/^Arrow(Up|Down|Left|Right)$/.test(event.key)) return;
      event.preventDefault();
      const shown = all(tree, "summary").filter((one) => one.offsetParent !== null);
      const at = shown.indexOf(now);
      if (event.key === "ArrowRight") now.parentElement.open = true;
      if (event.key === "ArrowLeft") {
        if (now.parentElement.open) now.parentElement.open = false;
        else now.parentElement.parentElement.closest("details")?.querySelector("summary").focus();
      }
      if (event.key === "ArrowDown" && shown[at + 1]) shown[at + 1].focus();
      if (event.key === "ArrowUp" && shown[at - 1]) shown[at - 1].focus();
    });
  });

  // routing: the slider, or a click, chooses a window; its row in the table names those it attends to
  all(document, ".routing").forEach((part) => {
    const slider = part.querySelector("input");
    const said = part.querySelector("output");
    const windows = all(part, "svg g");
    const rows = all(part, "tr[data-routes]");
    const show = () => {
      const row = rows[slider.value];
      const routes = new Map(row.dataset.routes.split(" ").filter(Boolean).map((route, at) => {
        const [other, opacity] = route.split(":");
        return [Number(other), [at + 1, opacity]];
      }));
      windows.forEach((one, number) => {
        const [rank, opacity] = routes.get(number) || ["", "0"];
        one.classList.toggle("source", number === Number(slider.value));
        one.querySelector("rect").setAttribute("fill-opacity", opacity);
        if (one.querySelector("text")) one.querySelector("text").textContent = rank;
      });
      said.textContent = row.querySelector("th").textContent;
      const place = [row.dataset.row, row.dataset.column];
      slider.setAttribute("aria-valuetext", slider.dataset.place.replace(/\{(\d)\}/g, (_, at) => place[at]));
    };
    const choose = (number) => { slider.value = number; show(); };
    slider.addEventListener("input", show);
    slider.addEventListener("keydown", (event) => {
      const by = { PageDown: 1, PageUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const { row, column } = rows[slider.value].dataset;
      const next = rows.findIndex((one) => Number(one.dataset.row) === Number(row) + by && one.dataset.column === column);
      if (next >= 0) choose(next);
    });
    windows.forEach((one, number) => one.addEventListener("click", () => choose(number)));
    all(part, ".control").forEach((one) => { one.hidden = false; });
    show();
  });

  // buttons that copy
  all(document, "pre.copy, pre.command").forEach((pre) => {
    const button = document.createElement("button");
    const code = pre.querySelector("code");
    button.type = "button";
    button.className = "copier";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch (error) {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    pre.append(button);
  });

  // paper has no folds
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = all(document, "details:not([open])").filter((node) => !node.closest(".tree"));
    unfolded.forEach((node) => { node.open = true; });
  });
  addEventListener("afterprint", () => { unfolded.forEach((node) => { node.open = false; }); });

  go();
})();
