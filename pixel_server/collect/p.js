(function (w, d, h) {
  var data, to, no, yes, page, from, id, spent, since = 0, script = d.currentScript;

  function safe(run) {
    return function (event) {
      try { run(event); } catch (e) {}
    };
  }
  function here() { return location.href.split("#")[0]; }

  function send(said) {
    if (no) return;
    said.i = id;
    said.v = data.visitor;
    if (yes) said.c = 1;
    var body = JSON.stringify(said);
    if (navigator.sendBeacon && navigator.sendBeacon(to, body)) return;
    if (w.fetch)
      return fetch(to, { method: "POST", body: body, keepalive: true, credentials: "include" }).catch(safe);
    if (said.u) new Image().src = to + ".gif?" + new URLSearchParams(JSON.parse(body));
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
      send({ u: page.slice(0, 2000), r: from.slice(0, 1000) });
    }
    since = since || performance.now();
  }
  function begin(referrer) {
    id = 0;
    from = referrer;
    page = here();
    look();
  }
  function moved() {
    if (here() == page) return;
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
    no = "off" in data || data.consent == "no";
    yes = "consent" in data;
    w.pixel = {
      consent: safe(function () {
        no = 0;
        yes = 1;
        if (id) report();
        look();
      }),
      stop: safe(function () {
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
