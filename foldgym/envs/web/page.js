// What every document is given before its own scripts: numbers for elements, and readings of them.
(() => {
  if (Object.prototype.hasOwnProperty.call(window, "__foldgym")) return;
  const later = window.setTimeout.bind(window);
  let numbers = new WeakMap();
  let elements = new Map();
  let leaving = false, opening = false;
  const reset = () => { numbers = new WeakMap(); elements = new Map(); };
  window.addEventListener("beforeunload", () => { leaving = true; });
  // A link to a file does not leave the page, and a page may refuse the submission of a form.
  window.addEventListener("submit", (event) => {
    later(() => { if (!event.defaultPrevented) leaving = true; });
  }, true);

  window.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[target], area[target]");
    if (link && !["_self", "_top", "_parent", ""].includes(link.target))
      later(() => { if (!event.defaultPrevented) opening = true; });
  }, true);
  const open = window.open;
  window.open = (...given) => { opening = true; return open.apply(window, given); };

  const number = (element) => {
    let ref = numbers.get(element);
    if (ref === undefined) {
      ref = elements.size + 1;
      numbers.set(element, ref);
      elements.set(ref, new WeakRef(element));
    }
    return ref;
  };
  const element = (ref) => {
    const found = elements.get(ref)?.deref();
    return found && found.isConnected ? found : null;
  };

  const INPUTS = { checkbox: "checkbox", radio: "radio", button: "button", submit: "button",
    reset: "button", image: "button", range: "slider", number: "spinbutton", file: "file",
    color: "color", date: "date", time: "time" };
  const ROLES = { A: "link", BUTTON: "button", SELECT: "combobox", TEXTAREA: "textbox",
    H1: "heading", H2: "heading", H3: "heading", H4: "heading", H5: "heading", H6: "heading",
    IMG: "image", UL: "list", OL: "list", LI: "listitem", TABLE: "table", TR: "row", TD: "cell",
    TH: "columnheader", NAV: "navigation", MAIN: "main", FORM: "form", LABEL: "label",
    P: "paragraph", CANVAS: "canvas", IFRAME: "frame", SUMMARY: "button", DIALOG: "dialog" };
  const role = (node, tag) => {
    const given = node.getAttribute("role");
    if (given) return given;
    if (tag === "INPUT") return INPUTS[node.type] || "textbox";
    if (node.isContentEditable && !node.parentElement?.isContentEditable) return "textbox";
    return ROLES[tag] || "";
  };
  const squeeze = (text) => text.replace(/\s+/g, " ").trim();
  // A label's own words: those of a control inside it are its value and not its name.
  const captionOf = (label) => {
    const copy = label.cloneNode(true);
    for (const each of copy.querySelectorAll("select, textarea, button")) each.remove();
    return copy.textContent;
  };

  const named = (node, tag) => {
    const by = node.getAttribute("aria-labelledby");
    if (by) return squeeze(by.split(/\s+/).map((id) => node.ownerDocument.getElementById(id)?.textContent || "").join(" "));
    const said = node.getAttribute("aria-label") || node.getAttribute("alt");
    if (said) return squeeze(said);
    if (tag === "INPUT" && ["button", "submit", "reset"].includes(node.type)) return node.value;
    const labels = node.labels ? [...node.labels].map(captionOf).join(" ") : "";
    return squeeze(labels || node.getAttribute("title") || node.getAttribute("placeholder") || "");
  };
  const SKIPPED = new Set(["SCRIPT", "STYLE", "NOSCRIPT", "TEMPLATE", "HEAD", "META", "LINK", "TITLE", "BR"]);

  const observe = (skip) => {
    const nodes = [];
    const visit = (node, depth, dx, dy, view) => {
      const tag = node.tagName.toUpperCase();
      if (SKIPPED.has(tag) || (skip && node.matches(skip))) return;
      const style = view.getComputedStyle(node);
      if (style.display === "none") return;
      const rect = node.getBoundingClientRect();
      const shown = rect.width > 0 && rect.height > 0 && style.visibility === "visible";
      let next = depth;
      const texts = [], inner = [];
      for (const child of node.shadowRoot ? node.shadowRoot.childNodes : node.childNodes) {
        if (child.nodeType === 3 && child.data.trim()) { texts.push(child); inner.push(child); }
        else if (child.nodeType === 1 && tag !== "SELECT" && tag !== "TEXTAREA") inner.push(child);
      }
      const plain = texts.length === inner.length;
      if (shown) {
        const attributes = {};
        for (const { name, value } of node.attributes)
          if (name !== "style" && !name.startsWith("on") && !name.startsWith("data-wob") && name !== "data-tampered")
            attributes[name] = value.slice(0, 120);
        const one = { ref: number(node), depth, tag: tag.toLowerCase(), role: role(node, tag),
          name: named(node, tag), box: [rect.left + dx, rect.top + dy, rect.width, rect.height]
            .map((x) => Math.round(x * 10) / 10), attributes };
        if (plain && texts.length) one.text = squeeze(texts.map((each) => each.data).join(" "));
        if (tag === "INPUT" || tag === "TEXTAREA") {
          if (node.type === "checkbox" || node.type === "radio") one.checked = node.checked;
          else one.value = node.type === "file" ? [...node.files].map((each) => each.name).join(", ") : node.value;
        }
        if (tag === "SELECT") one.options = [...node.options].map((each) => [squeeze(each.text), each.selected]);
        if (node.disabled) one.disabled = true;
        if (node.ownerDocument.activeElement === node && tag !== "BODY") one.focused = true;
        if (node.hasAttribute("aria-expanded")) one.expanded = node.getAttribute("aria-expanded") === "true";
        const room = node.scrollHeight - node.clientHeight;
        if (room > 2 && ["auto", "scroll"].includes(style.overflowY)) one.scroll = [Math.round(node.scrollTop), room];
        const paint = node instanceof view.SVGElement ? style.fill : style.backgroundColor;
        if (paint !== "rgba(0, 0, 0, 0)" && paint !== "none") one.paint = paint;
        nodes.push(one);
        next = depth + 1;
      }
      if (!(plain && shown)) for (const child of inner) {
        if (child.nodeType === 1) visit(child, next, dx, dy, view);
        else if (style.visibility === "visible") nodes.push({ ref: 0, depth: next, tag: "#text", text: squeeze(child.data) });
      }
      if (tag === "IFRAME") {
        let inside = null;
        try { inside = node.contentDocument; } catch { inside = null; }
        if (inside?.body) visit(inside.body, next, dx + rect.left + node.clientLeft, dy + rect.top + node.clientTop, node.contentWindow);
      }
    };
    if (document.body) visit(document.body, 0, 0, 0, window);
    return { url: location.href, title: document.title, nodes,
      scroll: [Math.round(scrollX), Math.round(scrollY),
        document.documentElement.scrollWidth, document.documentElement.scrollHeight] };
  };

  const outer = (node) => {  // where its frame's corner is in the page
    let x = 0, y = 0;
    for (let view = node.ownerDocument.defaultView; view !== window && view.frameElement; view = view.parent) {
      const box = view.frameElement.getBoundingClientRect();
      x += box.left + view.frameElement.clientLeft;
      y += box.top + view.frameElement.clientTop;
    }
    return [x, y];
  };
  const gone = (ref) => ({ error: `there is no element ${ref} on the page now` });
  const point = (ref) => {
    const node = element(ref);
    if (!node) return gone(ref);
    let box = node.getClientRects()[0];
    if (!box || !node.checkVisibility?.({ visibilityProperty: true })) return { error: `element ${ref} is not visible` };
    const view = node.ownerDocument.defaultView;
    const within = (b) => b.top >= 0 && b.left >= 0 && b.bottom <= view.innerHeight && b.right <= view.innerWidth;
    const top = (b, x, y) => {
      const hit = node.ownerDocument.elementFromPoint(b.left + b.width * x, b.top + b.height * y);
      const own = hit && (node.contains(hit) || hit.contains(node) || [...(node.labels || [])].some((l) => l.contains(hit)));
      return own ? { x: b.left + b.width * x, y: b.top + b.height * y } : null;
    };
    const open = (b) => {  // its middle, or where else nothing lies over it
      for (const x of [0.5, 0.15, 0.85]) for (const y of [0.5, 0.15, 0.85]) {
        const found = top(b, x, y);
        if (found) return found;
      }
      return null;
    };
    if (!within(box) || !top(box, 0.5, 0.5)) {
      node.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
      box = node.getClientRects()[0];
    }
    const found = open(box);
    if (!found) {
      const hit = node.ownerDocument.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
      const by = hit ? `element ${number(hit)} lies over it` : "it lies outside of the window";
      return { error: `element ${ref} cannot be clicked: ${by}` };
    }
    const [dx, dy] = outer(node);
    return { x: found.x + dx, y: found.y + dy };
  };
  const focus = (ref) => {
    const node = element(ref);
    if (!node) return gone(ref);
    node.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
    node.focus({ preventScroll: true });
    const now = node.ownerDocument.activeElement;
    return now === node || node.contains(now) ? {} : { error: `element ${ref} takes no focus` };
  };
  const changed = (node) => {
    node.dispatchEvent(new Event("input", { bubbles: true }));
    node.dispatchEvent(new Event("change", { bubbles: true }));
  };
  // Either everything in the field is selected, so that text can be typed over it, or it is set.
  const fill = (ref, value) => {
    const node = element(ref);
    if (!node) return gone(ref);
    const tag = node.tagName;
    const text = tag === "TEXTAREA" || node.isContentEditable ||
      (tag === "INPUT" && ["textbox", "spinbutton"].includes(INPUTS[node.type] || "textbox"));
    const settable = tag === "INPUT" && ["range", "color", "date", "time", "month", "week", "datetime-local"].includes(node.type);
    if (!text && !settable) return { error: `element ${ref} is no field to fill` };
    if (node.disabled || node.readOnly) return { error: `element ${ref} cannot be changed` };
    const there = focus(ref);
    if (there.error) return there;
    if (settable && !(text && node.type === "number")) {
      Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(node, value);
      if (node.value !== value && node.type !== "range" && node.type !== "color") return { error: `${JSON.stringify(value)} is no value of a ${node.type} field` };
      changed(node);
      return { set: true };
    }
    if (node.select) node.select();
    else node.ownerDocument.getSelection().selectAllChildren(node);
    return { empty: !(node.value ?? node.textContent) };
  };
  const select = (ref, labels) => {
    const node = element(ref);
    if (!node) return gone(ref);
    if (node.tagName !== "SELECT") return { error: `element ${ref} is no list to select from` };
    const chosen = [];
    for (const label of labels) {
      const option = [...node.options].find((each) => squeeze(each.text) === squeeze(label) || each.value === label);
      if (!option) return { error: `element ${ref} has no option ${JSON.stringify(label)}` };
      chosen.push(option);
    }
    if (chosen.length > 1 && !node.multiple) return { error: `element ${ref} takes one option only` };
    node.focus({ preventScroll: true });
    for (const option of node.options) option.selected = chosen.includes(option);
    changed(node);
    return {};
  };
  const text = () => {  // what is selected
    const node = document.activeElement;
    if (node && node.selectionStart !== undefined && node.selectionStart !== null) return node.value.slice(node.selectionStart, node.selectionEnd);
    return String(getSelection());
  };
  // The document's own tasks come first: handlers that an action has started, submissions of forms.
  const settle = () => new Promise((done) => later(() => later(() => {
    done([leaving, opening]);
    opening = false;
  })));

  Object.defineProperty(window, "__foldgym", { value: { observe, point, focus, fill, select, element, reset, settle, text } });
})();
