/* sokuji.js: tracks what happens on a page, and shows what is decided about it. No dependencies, no build step.

   <script async src="https://HOST/sokuji.js"></script>
   sokuji("init", { key: "WRITE KEY", host: "https://HOST" }); sokuji("page"); sokuji("track", "buy", { revenue: 30 }) */
(() => {
  "use strict";
  // Loaded twice.
  if (window.sokuji && window.sokuji.visitor) return;
  const VERSION = "0.1.0", PREFIX = "sokuji.";
  // Browsers allow 64 KiB at page hide.
  const EVENTS_MAX = 1000, EVENT_BYTES_MAX = 32000, BATCH_EVENTS = 100, BATCH_BYTES = 60000;
  const FLUSH_MS = 50, RETRY_MS = 1000, RETRY_MS_MAX = 60000, SEEN_MAX = 200, WAITING_MAX = 5, PULL_AFTER = 2;
  const origin = document.currentScript ? new URL(document.currentScript.src, location.href).origin : location.origin;
  const bytes = new TextEncoder();
  let options = null, consent = false, denied = false;

  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const backoff = (failures) => Math.min(RETRY_MS * 2 ** failures, RETRY_MS_MAX) * (0.5 + Math.random() / 2);
  const base64 = (list) => btoa(String.fromCharCode(...list)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const random = (count) => base64(crypto.getRandomValues(new Uint8Array(count)));
  const request = (url, init) => {
    const abort = new AbortController(), timer = setTimeout(() => abort.abort(), 10000);
    return fetch(url, { credentials: "omit", signal: abort.signal, ...init }).finally(() => clearTimeout(timer));
  };

  // SHA-256 (FIPS 180-4): crypto.subtle is missing on plain http, and asynchronous.
  const sha256 = (text) => {
    const hash = [], primes = [], fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
    for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
    for (const p of primes.slice(0, 8)) hash.push(fraction(Math.sqrt(p)));
    const data = bytes.encode(text), length = ((data.length + 72) >> 6) * 16, words = Array(length).fill(0);
    data.forEach((byte, i) => { words[i >> 2] |= byte << (24 - (i % 4) * 8); });
    words[data.length >> 2] |= 0x80 << (24 - (data.length % 4) * 8);
    words[length - 1] = data.length * 8;
    const rotate = (x, n) => (x >>> n) | (x << (32 - n));
    for (let start = 0; start < length; start += 16) {
      const w = words.slice(start, start + 16);
      let [a, b, c, d, e, f, g, h] = hash;
      for (let i = 0; i < 64; i++) {
        if (i >= 16) {
          const x = w[i - 15], y = w[i - 2];
          w[i] = (w[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3)) + w[i - 7] + (rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10))) | 0;
        }
        const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25), s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        const t1 = (h + s1 + ((e & f) ^ (~e & g)) + fraction(Math.cbrt(primes[i])) + w[i]) | 0;
        [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0];
      }
      [a, b, c, d, e, f, g, h].forEach((x, i) => { hash[i] = (hash[i] + x) | 0; });
    }
    return hash.flatMap((x) => [24, 16, 8, 0].map((n) => (x >>> n) & 255));
  };

  // ---- what is kept on the device, if it may be

  // Storage may be full, or forbidden.
  const attempt = (step) => { try { return step(); } catch { return null; } };
  const store = {
    get: (name) => attempt(() => JSON.parse(localStorage.getItem(PREFIX + name))),
    put: (name, value) => attempt(() => localStorage.setItem(PREFIX + name, JSON.stringify(value))),
    set: (name, value) => consent && store.put(name, value),
    remove: (name) => attempt(() => localStorage.removeItem(PREFIX + name)),
    names: () => attempt(() => Object.keys(localStorage).filter((k) => k.startsWith(PREFIX)).map((k) => k.slice(PREFIX.length))) || [],
  };
  const cookie = (value, seconds) => {
    const domain = options.domain ? `; Domain=${options.domain}` : "", secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `sokuji_id=${value}; Max-Age=${seconds}; Path=/; SameSite=Lax${domain}${secure}`;
  };

  // The visitor's id is the hash of a secret that only this browser has: what is sent with every event proves nothing by itself.
  // Of a user who signed in the site's server signs the id, which any page could name.
  let secret = null, visitor = null, user = null, signature = null;
  const identity = (fresh) => {
    const kept = (/(?:^|; )sokuji_id=([\w-]{20,100})/.exec(document.cookie) || [])[1] || store.get("id");
    secret = (!fresh && (kept || secret)) || random(24);
    visitor = "s1-" + base64(sha256(secret));
    if (fresh) signUp(null, null);
    else if (!user) [user, signature] = [store.get("user"), store.get("signature")];
    if (consent) { cookie(secret, 63072000); store.set("id", secret); signUp(user, signature); }
  };
  const signUp = (id, signed) => { [user, signature] = [id, signed]; store.set("user", user); store.set("signature", signature); };

  // ---- events

  const tab = "queue." + random(6);
  let queue = [], timer = null, saver = null, sending = false, failures = 0;
  const size = (event) => bytes.encode(JSON.stringify(event)).length;
  const persist = () => { clearTimeout(saver); saver = null; if (queue.length) store.set(tab, queue); else store.remove(tab); };
  // Writing all of a long queue for each event would be slow.
  const save = () => { saver = saver || setTimeout(persist, FLUSH_MS); };
  const batch = () => {
    let total = 0;
    const end = queue.findIndex((event, i) => (total += size(event) + 1) > BATCH_BYTES || i >= BATCH_EVENTS);
    return end < 0 ? queue.slice() : queue.slice(0, Math.max(1, end));
  };
  const body = (events) => JSON.stringify({ batch: events, sentAt: new Date().toISOString(), writeKey: options.key });
  const drop = (events) => { const ids = new Set(events.map((e) => e.messageId)); queue = queue.filter((e) => !ids.has(e.messageId)); save(); };
  const flush = (ms = 0) => { if (timer === null && consent) timer = setTimeout(send, ms); };

  const send = async () => {
    timer = null;
    if (sending || !queue.length || !consent) return;
    sending = true;
    const events = batch();
    let wait = null;
    try {
      const answer = await request(`${options.host}/v1/batch${streaming ? "" : "?decisions=wait"}`, { method: "POST", body: body(events) });
      if (answer.ok) ((await answer.json().catch(() => ({}))).decisions || []).forEach(receive);
      if (answer.status >= 500 || [408, 429].includes(answer.status)) wait = Math.min(answer.headers.get("Retry-After") * 1000 || 0, 5 * RETRY_MS_MAX);
      else if (!answer.ok) console.warn(`sokuji: ${events.length} events were refused (${answer.status})`);
    } catch { wait = 0; }
    sending = false;
    failures = wait === null ? 0 : failures + 1;
    if (wait === null) drop(events);
    if (queue.length) flush(wait === null ? 0 : Math.max(wait, backoff(failures - 1)));
  };

  // All that is not acknowledged goes once more while the page still can, and stays on the device until it is: the next page sends it
  // again if this one does not live to see the answer, and the platform knows a repeat by its messageId.
  const hide = () => {
    persist();
    if (queue.length && consent) navigator.sendBeacon(`${options.host}/v1/batch`, body(batch()));
  };

  const record = (type, fields) => {
    if (denied) return;
    const event = {
      type, messageId: random(15), anonymousId: visitor, proof: secret, userId: user || undefined, userSignature: signature || undefined, timestamp: new Date().toISOString(), ...fields,
      context: {
        library: { name: "sokuji.js", version: VERSION }, locale: navigator.language, timezone: Intl.DateTimeFormat().resolvedOptions().timeZone, userAgent: navigator.userAgent,
        page: { url: location.href, path: location.pathname, title: document.title, referrer: document.referrer },
      },
    };
    if (size(event) > EVENT_BYTES_MAX) return console.warn(`sokuji: an event of more than ${EVENT_BYTES_MAX} bytes was not sent`);
    queue.push(event);
    // Offline for long: the newest are worth more.
    if (queue.length > EVENTS_MAX) queue.shift();
    save();
    if (document.visibilityState === "hidden") hide();
    flush(FLUSH_MS);
  };

  // ---- actions

  let streaming = false, cut = () => {}, token = null, tokenEnds = 0, generation = 0, showing = false, handler = null;
  let waiting = [];
  const visible = () => document.visibilityState !== "hidden" ? null :
    new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));

  const authorize = async () => {
    if (token && Date.now() < tokenEnds - 5000) return token;
    if (options.token) { token = await options.token(visitor, user); tokenEnds = Date.now() + 60000; return token; }
    const asked = Date.now(), mine = generation, signed = signature;
    const proof = { writeKey: options.key, anonymousId: visitor, proof: secret, ...(signed && { userId: user, userSignature: signed }) };
    const answer = await request(`${options.actions}/v1/actions/token`, { method: "POST", body: JSON.stringify(proof) });
    if (answer.status === 403 && signed) {
      console.warn(`sokuji: the signature is not that of user ${proof.userId}`);
      if (signed === signature) signUp(user, null);
    }
    // Of somebody else by now.
    if (!answer.ok || mine !== generation) throw Error(`no token (${answer.status})`);
    const granted = await answer.json();
    token = granted.token;
    if (user && !signed && !granted.unsigned_users) console.info("sokuji: messages for a user who has signed in need { signature }: docs/actions.md");
    // By this clock, which need not be right.
    tokenEnds = asked + granted.seconds * 1000;
    return token;
  };

  const address = async (path) => `${options.actions}/v1/actions${path}?token=${encodeURIComponent(await authorize())}`;

  const stream = (url) => new Promise((done) => {
    const source = new EventSource(url);
    let opened = false;
    cut = () => { source.close(); streaming = false; done(opened); };
    source.onopen = () => { opened = streaming = true; };
    // Its own way to come back would use the old token.
    source.onerror = cut;
    source.addEventListener("action", (event) => receive(JSON.parse(event.data)));
  });

  const listen = async () => {
    if (options.actions === false || !consent) return;
    cut();
    const mine = ++generation;
    let failed = 0;
    while (mine === generation) {
      // A hidden page needs no connection, and browsers allow six of them.
      await visible();
      try {
        const url = await address("/stream");
        if (mine !== generation) return;
        failed = (await stream(url)) ? 0 : failed + 1;
        // Something on the way does not let streams through.
        if (failed >= PULL_AFTER && mine === generation) {
          const answer = await request(await address(""));
          if (answer.ok) (await answer.json()).actions.forEach(receive);
          else token = null;
        } else if (failed) token = null;
      } catch { failed++; }
      await sleep(backoff(failed));
    }
  };

  // Also where nothing can be stored.
  let shown = [];
  const seen = (id) => shown.concat(store.get("seen") || []).includes(id);
  const see = (id) => { shown.push(id); store.set("seen", (store.get("seen") || []).concat(id).slice(-SEEN_MAX)); };
  const receive = (decision) => {
    if (!consent || seen(decision.id) || waiting.some((other) => other.id === decision.id) || waiting.length >= WAITING_MAX) return;
    waiting = waiting.filter((other) => other.rule !== decision.rule).concat(decision);
    next();
  };
  const next = async () => {
    if (showing || !waiting.length) return;
    showing = true;
    await visible();
    const decision = waiting.shift(), mine = generation;
    // Withdrawn meanwhile.
    if (!decision) return void (showing = false);
    let holds = false;
    try {
      const answer = await request(await address(`/${encodeURIComponent(decision.id)}/eligible`));
      // Another tab may have been faster.
      holds = answer.ok && (await answer.json()).eligible && mine === generation && !seen(decision.id);
    } catch { /* who cannot ask does not show; it comes again with the next stream */ }
    const done = () => { showing = false; next(); };
    if (!holds) return done();
    see(decision.id);
    const tell = (what, more) => record("track", { event: `action_${what}`, properties: { decision_id: decision.id, rule: decision.rule, arm: decision.arm, ...more } });
    const { action } = decision;
    // The page shows it itself.
    if (handler && handler(decision, tell) === false) return done();
    if (!["popup", "banner"].includes(action.kind)) return done();
    message(action.kind === "popup", action, tell, done);
    tell("shown");
  };

  // ---- showing. Texts only ever become text nodes, and addresses are looked at before they are used.

  const safe = (text) => attempt(() => { const url = new URL(text, location.href); return /^https?:$/.test(url.protocol) ? url.href : null; });
  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children.filter(Boolean));
    return made;
  };
  // A page sets --sokuji-accent and --sokuji-font to make it look like its own.
  const CSS = `:host{all:initial}*{box-sizing:border-box;margin:0;font:16px/1.55 var(--sokuji-font,system-ui,sans-serif);color:#1b2330}
.box{width:min(420px,calc(100vw - 32px));max-height:calc(100vh - 32px);margin:auto;padding:0;border:0;border-radius:20px;background:#fff;
box-shadow:0 32px 80px #0b122059}.box::backdrop{background:#0b12204d;backdrop-filter:blur(2px)}.text{padding:32px;flex:1}
.bar{position:fixed;left:16px;right:16px;bottom:16px;z-index:2147483647;display:flex;align-items:center;max-width:720px;margin:auto;
border-radius:16px;background:#fff;box-shadow:0 12px 40px #0b122040}.bar .text{padding:16px 20px}
img{display:block;width:100%;max-height:220px;object-fit:cover}.bar img{width:76px;height:76px;border-radius:16px 0 0 16px}
h2{padding-right:24px;font-size:24px;line-height:1.25;font-weight:700;letter-spacing:-.01em}.bar h2{font-size:16px}
p{margin-top:8px;color:#56606f;white-space:pre-line}.go{display:block;width:100%;margin-top:24px;padding:13px 22px;border:0;border-radius:12px;
background:var(--sokuji-accent,#2447d8);color:#fff;font-weight:600;text-align:center;text-decoration:none;cursor:pointer}.go:hover{filter:brightness(1.1)}
.bar .go{width:auto;margin:0 56px 0 0}.x{position:absolute;top:16px;right:16px;width:32px;height:32px;border:0;border-radius:50%;background:#eef0f4;
color:#56606f;cursor:pointer}:focus-visible{outline:3px solid #8aa2ff;outline-offset:2px}
@media(prefers-reduced-motion:no-preference){.box,.bar{animation:in .25s ease-out}@keyframes in{from{opacity:0;transform:translateY(12px)}}}`;

  const message = (modal, action, tell, done) => {
    const host = element("div", { id: "sokuji-action" }), root = host.attachShadow({ mode: "open" });
    const close = (how) => { if (modal) box.close(); host.remove(); if (how) tell("closed", { how }); done(); };
    const link = action.link && safe(action.link), image = action.image && safe(action.image);
    const go = (action.button || link) && element(link ? "a" : "button", { className: "go", textContent: action.button || "\u2192", onclick: () => { tell("clicked"); hide(); close(); } });
    if (go && link) Object.assign(go, { href: link, rel: "noopener" });
    const box = element(modal ? "dialog" : "div", { className: modal ? "box" : "bar", ariaLabel: action.title },
      image && element("img", { src: image, alt: "", referrerPolicy: "no-referrer" }),
      element("div", { className: "text" }, element("h2", { textContent: action.title }), action.body && element("p", { textContent: action.body }), modal && go),
      !modal && go,
      element("button", { className: "x", textContent: "\u00d7", ariaLabel: "Close", onclick: () => close("button") }));
    try { const sheet = new CSSStyleSheet(); sheet.replaceSync(CSS); root.adoptedStyleSheets = [sheet]; } catch { root.append(element("style", { textContent: CSS })); }
    root.append(box);
    (document.body || document.documentElement).append(host);
    if (!modal) { box.role = "region"; return; }
    box.oncancel = (event) => { event.preventDefault(); close("escape"); };
    box.onclick = (event) => { if (event.target === box) close("outside"); };
    box.showModal();
  };

  // ---- commands

  const begin = () => {
    [consent, denied] = [true, false];
    store.set("consent", true);
    identity(false);
    // What waited for consent.
    queue.forEach((event) => Object.assign(event, { anonymousId: visitor, proof: secret }));
    // Left by pages that are gone.
    for (const name of store.names().filter((each) => each.startsWith("queue.") && each !== tab)) {
      queue = (store.get(name) || []).concat(queue).slice(-EVENTS_MAX);
      store.remove(name);
    }
    save();
    flush();
    listen();
  };
  const commands = {
    init(given) {
      if (options) return;
      const trim = (url) => String(url || origin).replace(/\/+$/, "");
      options = { ...given, host: trim(given.host), actions: given.actions === false ? false : trim(given.actions || given.host) };
      handler = given.onAction || null;
      addEventListener("online", () => { failures = 0; clearTimeout(timer); timer = null; flush(); });
      addEventListener("pagehide", hide);
      document.addEventListener("visibilitychange", () => { if (document.visibilityState === "hidden") { hide(); cut(); } });
      const kept = store.get("consent");
      denied = kept === false;
      if (options.consent === "required" ? kept : !denied) begin();
      // In memory, for what waits for consent.
      else identity(true);
    },
    consent(given) {
      if (given && !consent) begin();
      if (given) return;
      generation++;
      cut();
      [consent, denied] = [false, true];
      [queue, waiting, token] = [[], [], null];
      store.names().forEach(store.remove);
      cookie("", 0);
      identity(true);
      // Else the next page would begin again.
      if (options.consent !== "required") store.put("consent", false);
    },
    page(properties) { record("page", { properties: { url: location.href, path: location.pathname, title: document.title, ...properties } }); },
    track(event, properties) { record("track", { event, properties: { ...properties } }); },
    identify(id, traits, { signature: signed } = {}) {
      const who = id == null ? user : String(id), was = signature;
      signUp(who, signed || (who === user ? was : null));
      record("identify", { traits: { ...traits } });
      // The token names the user, or another one.
      if (was !== signature) { token = null; listen(); }
    },
    reset() { token = null; waiting = []; store.remove("seen"); identity(true); listen(); },
  };
  const run = (name, ...rest) => {
    if (!Object.hasOwn(commands, name)) throw Error(`sokuji: there is no command ${name}; there are ${Object.keys(commands).join(", ")}`);
    if (!options && name !== "init") throw Error(`sokuji: ${name} before init`);
    return commands[name](...rest);
  };
  const early = (window.sokuji && window.sokuji.q) || [];
  window.sokuji = run;
  run.visitor = () => visitor;
  early.forEach((call) => run(...call));
})();
