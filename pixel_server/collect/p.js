((w, d, h, at) => {
  let data, to, no, yes, page, path, from, id, spent, warned, since = 0;
  // The instances of this window, by campaign.
  const px = Symbol.for("px"), all = w[px] || Object.create(null);

  const warn = why => {
    if (!warned && w.console) console.warn("p.js counts nothing: " + why);
    warned = 1;
  };
  const safe = run => event => {
    try { run(event); } catch (e) { warn(e); }
  };
  const each = name => value => {
    for (const campaign in all) safe(all[campaign][name])(value);
  };
  const on = (target, type, run) => target.addEventListener(type, safe(run), true);
  // Reads a property of the document. An element such as <form name="hidden"> shadows d.hidden.
  const get = name => (name = Object.getOwnPropertyDescriptor(Document.prototype, name)) && name.get.call(d);

  // Cuts a text to a number of bytes of JSON: the server accepts bodies of 4096 bytes. Half of a surrogate pair
  // takes more bytes in JSON (\ud83d) than the whole pair, so the loop never leaves a half at the end.
  const cut = (text, max_bytes) => {
    text = (text || "").slice(0, max_bytes);
    while (text && new TextEncoder().encode(JSON.stringify(text)).length > max_bytes) text = text.slice(0, -1);
    return text;
  };

  // Ad blockers cancel sendBeacon to other sites without an error. So fetch is used if it can outlive the page.
  const send = body => {
    if (no) return;
    body.i = id;
    body.v = cut(data.visitor, 800);
    if (yes) body.c = 1;
    body = JSON.stringify(body);
    const post = keepalive => fetch(to, { method: "POST", body, keepalive, credentials: "include" }).then(answer => {
      // A site that has a copy of this script may answer every request.
      if (!answer.ok || !/gif/.test(answer.headers.get("content-type"))) warn(answer.status + " from " + to);
      return answer.text();
    });
    // Browsers allow 64 KB in requests that outlive the page. The page's own requests may have used that up.
    const retry = () => post(false).catch(warn);
    // Some pages have a Request of their own, as ASP has.
    if (w.fetch && "keepalive" in Object((w.Request || 0).prototype)) post(true).catch(retry);
    else navigator.sendBeacon(to, body) || retry();
  };
  const report = () => {
    if (since) spent += performance.now() - since;
    since = 0;
    send({ t: Math.round(spent) });
  };
  const look = () => {
    if (get("prerendering") || get("hidden")) return since && report();
    if (no || !page) return;
    if (!id) {
      id = 1 + Math.random().toString(36).slice(2);
      spent = since = 0;
      send({ u: cut(page, 2000), r: cut(from, 1000) });
    }
    since = since || performance.now();
  };
  // Returns an address as it is sent. The route of a hash router is put into the path: "/a#/b?c" becomes "/a%23/b?&c".
  const address = url => {
    const [base, hash] = url.href.split("#"), [route, query] = (hash || "").split("?");
    return "hash" in data && route ? url.origin + url.pathname + "%23" + route + (url.search || "?") + "&" + (query || "") : base;
  };
  // Returns the address of a path as it is sent. An event is not a path: view may be a listener.
  const resolve = url => url && !url.type && address(new URL(url, at));
  const current = () => "page" in data ? page : address(at);
  const begin = (referrer, url) => {
    id = 0;
    from = referrer;
    page = url || current();
    path = current().split("?")[0];
    look();
  };
  const next = url => {
    if (since) report();
    begin(id ? page : from, url);
  };
  const moved = () => current().split("?")[0] == path || next();
  const view = url => next(resolve(url) || current() || address(at));
  const consent = () => {
    no = 0;
    yes = 1;
    if (id) report();
    look();
  };
  const stop = () => {
    no = 1;
    report();
  };
  // Obeys what a tag says. If the tag before gave consent too, the consent does not undo a pixel.stop() since then.
  const obey = (tag, before) => {
    if ("off" in tag || /^no$/i.test(tag.consent)) {
      stop();
      warn("data-off or data-consent");
    } else if (tag.consent != before.consent && /^(yes)?$/i.test(tag.consent)) consent();
  };
  const watch = name => {
    const original = h[name];
    h[name] = function (...given) {
      const result = original.apply(h, given);
      each("moved")();
      return result;
    };
  };

  safe(() => {
    let script = get("currentScript");
    // A module has no currentScript. It stands for the first tag that has not run, or else for the last one.
    if (!script) Document.prototype.querySelectorAll.call(d, "script[data-campaign]").forEach(tag => {
      if (!script || all[script.dataset.campaign]) script = tag;
    });
    data = script ? script.dataset : {};
    const name = data.campaign, skip = data.skip;
    if (!name) return warn("no data-campaign");
    if (all[name]) return all[name].again(data);
    to = data.api || (/^([^?#]*)\/p\.js([?#]|$)/.exec(script.src) || 0)[1];
    if (!to) return warn("no data-api");
    to = to.replace(/\/*$/, "/p/" + name);
    if (!/^http/.test(at.protocol)) return warn("no web page");
    if (/framed/.test(skip) && w != w.top || /local/.test(skip) && /^127\.|^\[::1]|(^|\.)local(host)?$/.test(at.hostname)) return warn("data-skip");
    obey(data, {});
    all[name] = {
      moved,
      view,
      again: now => {
        const before = data;
        data = Object.assign({}, data, now);
        obey(now, before);
        if (data.page && resolve(data.page) != page) view(data.page);
      },
      consent,
      stop
    };
    if (!w[px]) {
      w[px] = all;
      watch("pushState");
      watch("replaceState");
      on(w, "popstate", each("moved"));
      if (w.navigation) on(w.navigation, "currententrychange", each("moved"));
      // An element such as <iframe name="pixel"> is not a property of the window itself.
      if (!Object.getOwnPropertyDescriptor(w, "pixel")) w.pixel = { consent: each("consent"), stop: each("stop"), view: each("view") };
    }
    on(w, "pageshow", event => event.persisted && begin(get("referrer")));
    on(w, "prerenderingchange", look);
    on(w, "visibilitychange", look);
    page = resolve(data.page);
    begin(get("referrer"));
  })();
})(window, document, history, location);
