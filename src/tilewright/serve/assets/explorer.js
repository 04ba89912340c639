// The explorer: choose, edit, run, look. All texts become text nodes; all work is the server's.
(() => {
  "use strict";
  const tw = window.tilewright;
  const { el } = tw;
  const at = (id) => document.getElementById(id);
  const POLL_MS = 250;
  const EDIT_MS = 250;

  const state = { upload: null, job: null, before: null, chipIsRight: false };

  const ask = async (path, how = {}) => {
    const answer = await fetch(path, { credentials: "same-origin", ...how });
    const found = await answer.json().catch(() => ({ problems: [{ what: `the server answered ${answer.status}` }] }));
    if (!answer.ok) throw Object.assign(new Error("refused"), { problems: found.problems || [] });
    return found;
  };
  const post = (path, body) =>
    ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

  const showProblems = (list, problems) => {
    list.replaceChildren(
      ...problems.map((problem) => {
        const where = problem.line ? `line ${problem.line}` : "";
        const jump = where
          ? el("button", { type: "button", onclick: () => goTo(problem.line) }, where)
          : null;
        const fix = problem.fix ? ` Fix: ${problem.fix}` : "";
        return el("li", {}, jump, where ? ": " : "", `${problem.what}.${fix}`);
      })
    );
  };
  const failed = (error) => {
    showProblems(at("problems"), error.problems || [{ what: `the server cannot be reached: ${error.message}` }]);
  };

  // -------------------------------------------------------------------------------- the network

  const chosenNetwork = () =>
    state.upload ? { upload: state.upload } : { network: at("zoo-network").value };

  const listLayers = async () => {
    const said = at("network-said");
    said.textContent = "reading the network…";
    showProblems(at("problems"), []);
    try {
      const job = await finished(await post("/api/jobs", { verb: "list", ...chosenNetwork() }));
      if (job.state !== "done") throw Object.assign(new Error("refused"), { problems: job.problems });
      const found = await ask(`/api/jobs/${job.key}/layers`);
      const options = found.layers.map((layer) => el("option", { value: layer.name }, layer.name));
      at("layer").replaceChildren(el("option", { value: "" }, "all layers"), ...options);
      said.textContent = `${found.name}: ${found.layers.length} different layers, ${tw.short(found.macs)} MACs`;
      changed();
    } catch (error) {
      said.textContent = "";
      failed(error);
    }
  };

  const finished = async (job) => {
    let found = job;
    while (found.state === "waiting" || found.state === "running") {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      found = await ask(`/api/jobs/${job.key}`);
    }
    return found;
  };

  const send = async (file) => {
    at("network-said").textContent = `sending ${file.name}…`;
    try {
      const name = encodeURIComponent(file.name.slice(-100));
      const found = await ask(`/api/networks?name=${name}`, { method: "POST", body: file });
      state.upload = found.upload;
      at("zoo-network").value = "";
      await listLayers();
    } catch (error) {
      at("network-said").textContent = "";
      failed(error);
    }
  };

  const takeDrops = () => {
    const drop = at("drop");
    for (const name of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", name === "dragover");
        if (name === "drop" && event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
      });
    }
    at("file").addEventListener("change", (event) => event.target.files.length && send(event.target.files[0]));
  };

  // ----------------------------------------------------------------------------------- the chip

  const text = () => at("chip-text");
  const goTo = (line) => {
    const start = text().value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    const end = text().value.indexOf("\n", start);
    text().focus();
    text().setSelectionRange(start, end < 0 ? text().value.length : end);
  };

  const numberLines = (wrong) => {
    const count = text().value.split("\n").length;
    const lines = [];
    for (let line = 1; line <= count; line += 1) {
      lines.push(el("span", { class: wrong.has(line) ? "wrong" : null }, `${line}`), "\n");
    }
    at("lines").replaceChildren(...lines);
    at("lines").scrollTop = text().scrollTop;
  };

  let asked = 0;
  const checkChip = async () => {
    asked += 1;
    const mine = asked;
    try {
      const found = await post("/api/check", { text: text().value });
      if (mine !== asked) return; // the text has changed since
      state.chipIsRight = !found.problems.length;
      numberLines(new Set(found.problems.map((problem) => problem.line)));
      showProblems(at("chip-problems"), found.problems);
      if (!state.chipIsRight) {
        at("chip-said").textContent = `${found.problems.length} to mend`;
        return;
      }
      const { chip } = found;
      at("chip-said").textContent = `${chip.name}: ${chip.levels.length} memories, ${tw.count(chip.mac_units)} MAC units`;
      drawForm(found.fields);
      changed();
    } catch (error) {
      showProblems(at("chip-problems"), error.problems || [{ what: error.message }]);
    }
  };

  // A field changes the text at its place: comments and order stay as they are.
  const drawForm = (fields) => {
    if (at("fields").contains(document.activeElement)) {
      fields.forEach((field, number) => {
        const input = at("fields").querySelectorAll("input")[number];
        if (input) input.place = field;
      });
      if (fields.length === at("fields").childElementCount) return;
    }
    at("fields").replaceChildren(
      ...fields.map((field) => {
        const input = el("input", { type: "text", value: field.text, onchange: (event) => setField(event.target) });
        input.place = field;
        return el("label", {}, `${field.memory} ${field.label}`, input);
      })
    );
  };

  const setField = (input) => {
    const { start, end } = input.place;
    const chars = [...text().value]; // places count characters, not UTF-16 units
    const quoted = /^[\w .%-]+$/.test(input.value) ? input.value : JSON.stringify(input.value);
    text().value = [...chars.slice(0, start), quoted, ...chars.slice(end)].join("");
    checkChip();
  };

  let editing = null;
  const edited = () => {
    numberLines(new Set());
    clearTimeout(editing);
    editing = setTimeout(checkChip, EDIT_MS);
  };

  const loadChip = async (name) => {
    try {
      text().value = (await ask(`/api/chip/${encodeURIComponent(name)}`)).text;
      await checkChip();
    } catch (error) {
      showProblems(at("chip-problems"), error.problems || []);
    }
  };

  const keepChip = () => {
    const link = el("a", { download: "chip.yaml", href: URL.createObjectURL(new Blob([text().value])) });
    link.click();
    URL.revokeObjectURL(link.href);
  };

  // ------------------------------------------------------------------------------------ the work

  const showProgress = (job) => {
    const share = Math.round(100 * (job.state === "done" ? 1 : job.progress.share));
    at("progress").firstElementChild.style.width = `${share}%`;
    at("progress").setAttribute("aria-valuenow", share);
    const words = { waiting: "waiting for its turn", done: "done", failed: "failed", stopped: "stopped" };
    at("said").textContent = `${words[job.state] || job.progress.text}, ${job.seconds.toFixed(1)} s`;
  };

  const changed = () => {
    if (at("always").checked && state.chipIsRight) run();
  };

  const run = async () => {
    if (state.job) await stop();
    showProblems(at("problems"), []);
    const verb = at("verb").value;
    const request = {
      verb,
      ...chosenNetwork(),
      layer: at("layer").value,
      chip: text().value,
      seconds: Number(at("seconds").value),
      objective: at("objective").value,
      from: at("from").value,
      to: at("to").value,
    };
    try {
      const job = await post("/api/jobs", request);
      state.job = job.key;
      at("stop").disabled = false;
      await follow(job);
    } catch (error) {
      failed(error);
    }
  };

  const follow = async (job) => {
    let found = job;
    while (state.job === job.key) {
      showProgress(found);
      if (found.state !== "waiting" && found.state !== "running") break;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      found = await ask(`/api/jobs/${job.key}`);
    }
    if (state.job !== job.key) return; // another one was started
    state.job = null;
    at("stop").disabled = true;
    showProblems(at("problems"), found.problems);
    if (found.state === "done") await showResult(job.key);
  };

  const stop = async () => {
    const key = state.job;
    if (key) await ask(`/api/jobs/${key}`, { method: "DELETE" });
  };

  const showResult = async (key) => {
    const view = await ask(`/api/jobs/${key}/view`);
    compare(view);
    tw.mount(at("result"), view);
    at("page").hidden = false;
    at("page").href = `/api/jobs/${key}/page`;
    document.documentElement.dataset.result = key;
  };

  // What changed since the result that stood here before.
  const compare = (view) => {
    const now = Object.fromEntries(
      view.facts.filter((fact) => typeof fact.value === "number").map((fact) => [fact.label, fact])
    );
    const before = state.before && state.before.kind === view.kind ? state.before.facts : {};
    const parts = Object.entries(now)
      .filter(([label, fact]) => before[label] && before[label].value && before[label].value !== fact.value)
      .map(([label, fact]) => {
        const change = fact.value / before[label].value - 1;
        const sign = change > 0 ? "+" : "−";
        return [`${label} `, el("b", {}, `${sign}${(100 * Math.abs(change)).toFixed(1)} %`), "   "];
      });
    at("compared").replaceChildren(...(parts.length ? ["Against the result before: ", ...parts.flat()] : []));
    state.before = { kind: view.kind, facts: now };
  };

  // --------------------------------------------------------------------------------------- start

  const start = async () => {
    at("bar").append(tw.themeButton());
    const found = await ask("/api/zoo");
    const option = (name) => el("option", { value: name }, name);
    at("zoo-network").append(option(""), ...found.networks.map(option));
    at("zoo-chip").append(...found.chips.map(option));
    at("objective").append(...found.objectives.map(option));
    at("zoo-network").value = found.networks.includes("resnet18") ? "resnet18" : found.networks[0];
    at("zoo-chip").value = found.chips.includes("eyeriss") ? "eyeriss" : found.chips[0];
    at("zoo-network").addEventListener("change", (event) => {
      if (!event.target.value) return;
      state.upload = null;
      listLayers();
    });
    at("zoo-chip").addEventListener("change", (event) => loadChip(event.target.value));
    at("chip-file").addEventListener("change", async (event) => {
      if (!event.target.files.length) return;
      text().value = (await event.target.files[0].slice(0, 200000).text());
      checkChip();
    });
    at("keep").addEventListener("click", keepChip);
    text().addEventListener("input", edited);
    text().addEventListener("scroll", () => (at("lines").scrollTop = text().scrollTop));
    at("go").addEventListener("click", run);
    at("stop").addEventListener("click", () => stop().catch(failed));
    at("verb").addEventListener("change", (event) => {
      const map = event.target.value === "map";
      document.querySelectorAll(".for-map").forEach((each) => (each.hidden = !map));
      document.querySelectorAll(".for-curve").forEach((each) => (each.hidden = map));
      changed();
    });
    for (const id of ["layer", "objective", "from", "to"]) at(id).addEventListener("change", changed);
    takeDrops();
    await loadChip(at("zoo-chip").value);
    document.documentElement.dataset.ready = "true";
    await listLayers();
  };
  document.addEventListener("DOMContentLoaded", () => start().catch(failed));
})();
