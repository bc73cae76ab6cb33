// to: URL of the beacons. no: the page forbids sending. yes: the visitor agrees to a cookie. from: the referrer.
// id: of this view, 0 before it is sent. spent: ms that the view was visible before `since`. since: time at
// which the page became visible, 0 while it is hidden.
(function (w, d, h) {
  var data, to, no, yes, page, path, from, id, before, spent, since = 0, script = d.currentScript;

  // Returns a function that never throws, so that the page sees no error.
  function safe(run) {
    return function (event) {
      try { run(event); } catch (e) {}
    };
  }
  // Cuts a text to a number of bytes of JSON: the server accepts bodies of 4096 bytes. Half of a surrogate pair
  // takes more bytes in JSON (\ud83d) than the whole pair, so the loop never leaves a half at the end.
  function cut(text, max_bytes) {
    text = (text || "").slice(0, max_bytes);
    while (text && new TextEncoder().encode(JSON.stringify(text)).length > max_bytes) text = text.slice(0, -1);
    return text;
  }

  function send(body) {
    if (no) return;
    body.i = id;
    body.v = cut(data.visitor, 800);
    if (yes) body.c = 1;
    body = JSON.stringify(body);
    if (!navigator.sendBeacon || !navigator.sendBeacon(to, body))
      fetch(to, { method: "POST", body: body, keepalive: true, credentials: "include" })
        .catch(safe); // ignores a failure
  }
  function report() {
    if (since) spent += performance.now() - since;
    since = 0;
    send({ t: Math.round(spent) });
  }
  function look() {
    if (d.prerendering || d.hidden) return since && report();
    if (no) return;
    if (!id) {
      id = 1 + Math.random().toString(36).slice(2);
      spent = since = 0;
      send({ u: cut(page, 2000), r: cut(from, 1000) });
    }
    since = since || performance.now();
  }
  function begin(referrer) {
    id = 0;
    from = referrer;
    page = location.href.split("#")[0];
    path = location.pathname;
    look();
  }
  function moved() {
    if (location.pathname == path) return;
    if (since) report();
    begin(id ? page : from);
  }
  function on(target, type, run) { target.addEventListener(type, safe(run)); }
  function watch(name) {
    var original = h[name];
    h[name] = function () {
      var result = original.apply(h, arguments);
      safe(moved)();
      return result;
    };
  }

  safe(function () {
    data = script.dataset;
    if (!data.campaign) return;
    to = script.src.replace(/p\.js([?#].*)?$/, "p/" + data.campaign);
    no = "off" in data || /^no$/i.test(data.consent);
    yes = /^(yes)?$/i.test(data.consent);
    before = w.pixel; // set by another campaign's script, or by the page itself, whose object stays
    if (!before || before.px) w.pixel = {
      px: 1,
      consent: safe(function () {
        if (before) before.consent();
        no = 0;
        yes = 1;
        if (id) report();
        look();
      }),
      stop: safe(function () {
        if (before) before.stop();
        no = 1;
        report();
      })
    };
    watch("pushState");
    watch("replaceState");
    on(w, "popstate", moved);
    on(w, "pageshow", function (event) { if (event.persisted) begin(d.referrer); });
    on(d, "prerenderingchange", look);
    on(d, "visibilitychange", look);
    begin(d.referrer);
  })();
})(window, document, history);
