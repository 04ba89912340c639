// The page of a document's view: sections in order, and what choosing does.
(() => {
  "use strict";
  const tw = window.tilewright;
  const { el } = tw;

  const STATUS = {
    optimal: ["proved optimal", "good"],
    best_found: ["best found", "warn"],
    infeasible: ["no mapping", "bad"],
    given: ["as given", ""],
  };

  tw.mount = (home, view) => {
    tw.charts.splice(0).forEach((each) => each.finalize());
    new Page(home, view).show();
  };

  const section = (id, title, ...content) =>
    el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), content);

  class Page {
    constructor(home, view) {
      Object.assign(this, { home, view });
      this.design = view.choice ? view.choice.chosen : 0;
      this.layer = 0;
      this.charts = {};
    }

    show() {
      const { view } = this;
      const parts = [
        el(
          "header",
          { class: "top" },
          el("h1", {}, view.title),
          el("p", { class: "meta" }, view.meta.map((text) => el("span", {}, text)))
        ),
        section("summary", "Summary", tw.facts(view.facts)),
      ];
      const { choice } = view;
      this.chosen = el("div", { class: "chosen" });
      if (choice) parts.push(this.choiceSection());
      for (const chart of view.charts) parts.push(this.fixedChart(chart));
      this.body = el("div", { class: "design" });
      parts.push(this.body);
      if (view.notes.length) {
        parts.push(section("notes", "Where the figures come from", el("ul", {}, view.notes.map((text) => el("li", {}, text)))));
      }
      this.home.replaceChildren(...parts);
      this.after = [];
      if (choice) this.drawChoice();
      for (const chart of view.charts) tw.chart(chart.holder, chart.spec, chart.rows);
      if (view.designs.length) this.showDesign();
    }

    fixedChart(chart) {
      chart.holder = el("div", { class: "chart" });
      const table = tw.asTable(chart.title, chart.columns, chart.rows);
      const note = chart.note ? el("p", { class: "muted" }, chart.note) : null;
      return section(chart.id, chart.title, note, chart.holder, table);
    }

    choiceSection() {
      const { choice, designs } = this.view;
      this.choiceHolder = el("div", { class: "chart" });
      const options = designs.map((design, number) => [number, design.name]);
      this.designSelect = tw.select(`Chosen ${choice.noun || "point"}`, options, this.design, (value) =>
        this.pickDesign(Number(value))
      );
      const controls = [this.designSelect];
      if (choice.axes && Object.keys(choice.axes).length > 2) {
        const axes = Object.entries(choice.axes);
        this.axes = { first: choice.first, second: choice.second };
        const axis = (which, label) =>
          tw.select(label, axes, this.axes[which], (value) => {
            this.axes[which] = value;
            this.drawChoice();
          });
        controls.push(axis("first", "Across"), axis("second", "Up"));
      }
      const columns = { label: choice.noun || "point", text: "figures", ...choice.axes };
      return section(
        "choice",
        choice.title,
        el("p", { class: "muted" }, choice.note),
        el("div", { class: "controls" }, controls),
        this.choiceHolder,
        tw.asTable(choice.title, columns, choice.rows),
        this.chosen
      );
    }

    drawChoice() {
      const { choice } = this.view;
      const spec = JSON.parse(JSON.stringify(choice.spec));
      const values = { chosen: this.design, ...(this.axes || {}) };
      for (const param of spec.params) if (param.name in values) param.value = values[param.name];
      if (this.axes) {
        spec.encoding.x.title = choice.axes[this.axes.first];
        spec.encoding.y.title = choice.axes[this.axes.second];
      }
      this.charts.choice = tw.chart(this.choiceHolder, spec, choice.rows, (datum) => {
        if (datum.design >= 0) this.pickDesign(datum.design);
      });
    }

    pickDesign(number) {
      this.design = number;
      this.designSelect.querySelector("select").value = number;
      this.signal("choice", number);
      this.layer = Math.min(this.layer, Math.max(0, this.current().layers.length - 1));
      this.showDesign();
    }

    signal(chart, value) {
      if (this.charts[chart]) this.charts[chart]("chosen", value);
    }

    current() {
      return this.view.designs[this.design];
    }

    showDesign() {
      const design = this.current();
      if (this.view.choice) {
        this.chosen.replaceChildren(el("h3", {}, design.name), tw.facts(design.facts));
      }
      const { specs } = this.view;
      const parts = [];
      if (design.chip) parts.push(this.chipSection(design.chip));
      const titles = {
        energy: ["Energy by layer and level", "Every bar counts a layer as often as it occurs. Choose a bar to see its nest."],
        cycles: ["Cycles by layer, and what they are spent on", "With all MAC units at work a layer could be no faster. A memory that is slower than the MACs makes them wait."],
        roofline: ["Roofline", "A point is a layer. The tick right of it is where the physical limit of its DRAM traffic would put it."],
      };
      const drawn = Object.keys(titles).filter((id) => specs[id] && design.rows[id].length);
      const holders = {};
      for (const id of drawn) {
        holders[id] = el("div", { class: "chart" });
        const columns =
          id === "roofline"
            ? { label: "layer", xtext: "MACs per word", ytext: "MACs per cycle", limittext: "at the limit" }
            : { label: "layer", part: "part", text: id, share: "share" };
        const rows = design.rows[id].filter((row) => row.kind !== "roof");
        parts.push(
          section(id, titles[id][0], el("p", { class: "muted" }, titles[id][1]), holders[id], tw.asTable(titles[id][0], columns, rows))
        );
      }
      this.table = el("div");
      this.detail = el("div");
      if (design.layers.length) parts.push(section("layers", "Layers", this.table), this.detail);
      this.body.replaceChildren(...parts);
      for (const id of drawn) {
        this.charts[id] = tw.chart(holders[id], specs[id], design.rows[id], (datum) => {
          if (datum.key >= 0) this.pickLayer(datum.key);
        });
      }
      if (design.layers.length) this.pickLayer(this.layer);
    }

    chipSection(hardware) {
      const rows = hardware.levels.map((level) => {
        const size = level.capacity_bits;
        const sizes = size && typeof size === "object" ? Object.entries(size) : [];
        const text = sizes.length
          ? sizes.map(([operand, bits]) => `${operand} ${tw.bytes(bits / 8)}`).join(", ")
          : size ? tw.bytes(size / 8) : "unlimited";
        const fanout = level.fanout || {};
        const below = (fanout.x || 1) * (fanout.y || 1) > 1 ? `${fanout.x} × ${fanout.y}` : "";
        const rate = level.bandwidth || [level.read_bandwidth, level.write_bandwidth].filter(Boolean).join(" / ");
        return [
          level.memory,
          level.instances ? tw.count(level.instances) : null,
          text,
          level.word_bits ? `${level.word_bits} bits` : null,
          level.read_pj === null || level.read_pj === undefined ? null : `${Number(level.read_pj.toPrecision(4))} pJ`,
          rate ? String(rate) : null,
          below,
        ];
      });
      const units = hardware.mac_units ? `${tw.count(hardware.mac_units)} MAC units` : "";
      const clock = hardware.clock_ghz ? `${hardware.clock_ghz} GHz` : "";
      const heads = ["memory", "instances", "capacity", "word", "read", "words/cycle", "fan-out below"];
      return section(
        "chip",
        "The chip",
        el("p", { class: "muted" }, [hardware.name, units, clock].filter(Boolean).join(" · ")),
        tw.table("Memories of the chip, outermost first", heads, rows)
      );
    }

    pickLayer(number) {
      this.layer = number;
      for (const id of ["energy", "cycles", "roofline"]) this.signal(id, number);
      this.showTable();
      this.showLayer();
    }

    showTable() {
      const { layers } = this.current();
      const has = (key) => layers.some((layer) => layer[key] !== null && layer[key] !== undefined);
      const columns = [
        ["layer", (layer) => this.layerButton(layer)],
        ["×", (layer) => String(layer.repeat)],
        has("macs") && ["MACs", (layer) => layer.macs && tw.short(layer.macs)],
        has("energy_pj") && ["energy", (layer) => layer.energy_pj !== null && tw.energy(layer.energy_pj)],
        has("cycles") && ["cycles", (layer) => layer.cycles !== null && tw.count(layer.cycles)],
        has("utilization") && ["MACs busy", (layer) => layer.utilization && tw.percent(layer.utilization)],
        has("dram_words") && ["DRAM words", (layer) => layer.dram_words && tw.count(layer.dram_words)],
        has("dram_limit_words") && [
          "× limit",
          (layer) => layer.dram_words && layer.dram_limit_words && (layer.dram_words / layer.dram_limit_words).toFixed(2),
        ],
        ["certificate", (layer) => badge(layer)],
      ].filter(Boolean);
      const rows = layers.map((layer) => columns.map(([, cell]) => cell(layer) || null));
      const table = tw.table("Layers, once each", columns.map(([head]) => head), rows, {
        row: (number) => (number === this.layer ? { class: "picked" } : {}),
      });
      const focused = this.table.contains(document.activeElement);
      const scrolled = this.table.firstElementChild ? this.table.firstElementChild.scrollTop : 0;
      this.table.replaceChildren(table);
      table.scrollTop = scrolled;
      if (focused) table.querySelector("tr.picked button").focus({ preventScroll: true });
    }

    layerButton(layer) {
      const picked = layer.key === this.layer;
      const pick = () => this.pickLayer(layer.key);
      return el("button", { type: "button", class: "link", "aria-pressed": picked ? "true" : "false", onclick: pick }, layer.label);
    }

    showLayer() {
      const design = this.current();
      const layer = design.layers[this.layer];
      const options = design.layers.map((each) => [each.key, each.label]);
      const choose = tw.select("Layer", options, layer.key, (value) => {
        this.pickLayer(Number(value));
        this.detail.querySelector("select").focus({ preventScroll: true });
      });
      const facts = layer.work ? [el("code", { class: "einsum" }, layer.work.einsum), el("span", { class: "muted" }, sizesText(layer.work))] : [];
      const parts = [
        section(
          "nest",
          "The loop nest",
          el("div", { class: "controls" }, options.length > 1 ? choose : el("strong", {}, layer.label), badge(layer)),
          el("p", { class: "work" }, facts),
          layer.reason ? el("p", { class: "bad-text" }, layer.reason) : null,
          tw.drawNest(layer, design.chip, this.view.rules),
          layer.blocks && layer.work ? mappingText(layer) : null
        ),
      ];
      const steps = tw.drawSteps(layer, design.chip, this.view.rules);
      if (steps) {
        const note = "Step through the nest: the tile of every operand in every buffer, and the words that move.";
        parts.push(section("steps", "The nest, step by step", el("p", { class: "muted" }, note), steps));
      }
      if (layer.levels.length) parts.push(section("words", "Words and energy of the layer", wordsTable(layer)));
      this.detail.replaceChildren(...parts);
    }
  }

  const sizesText = (work) =>
    Object.entries(work.sizes)
      .filter(([, size]) => size > 1)
      .map(([dim, size]) => `${dim} ${tw.count(size)}`)
      .join("   ");

  const badge = (layer) => {
    const [text, tone] = STATUS[layer.status] || [String(layer.status), ""];
    const gap = layer.status === "best_found" && typeof layer.gap === "number" ? `, within ${tw.percent(layer.gap)}` : "";
    return el("span", { class: `badge ${tone}` }, text + gap);
  };

  const mappingText = (layer) =>
    el("details", { class: "as-table" }, el("summary", {}, "The mapping in words"), el("pre", { class: "mapping", tabindex: "0" }, layer.mapping));

  const wordsTable = (layer) => {
    const rows = layer.levels.flatMap((level) =>
      Object.entries(level.operands).map(([operand, cost]) => [
        `${level.memory} ${operand}`,
        ...["tile_words", "reads", "fills", "updates", "drains"].map((key) => tw.count(cost[key] || 0)),
        tw.energy(cost.energy_pj || 0),
      ])
    );
    if (layer.compute_pj !== null && layer.compute_pj !== undefined) {
      rows.push(["MACs", null, null, null, null, null, tw.energy(layer.compute_pj)]);
    }
    const busy = layer.levels
      .filter((level) => level.cycles)
      .map((level) => `${level.memory} ${tw.count(level.cycles)}`);
    const ports = busy.length ? `Cycles that ports are busy: ${busy.join(", ")}; compute ${tw.count(layer.compute_cycles || 0)}.` : "";
    return [
      tw.table("Words moved once through the layer, over all instances", ["memory, operand", "tile", "reads", "fills", "updates", "drains", "energy"], rows),
      ports ? el("p", { class: "muted" }, ports) : null,
    ];
  };

  // ------------------------------------------------------------------------------- light and dark

  const THEMES = ["auto", "light", "dark"];
  tw.themeButton = () => {
    const button = el("button", { type: "button", class: "theme" });
    const set = (theme) => {
      button.textContent = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[theme];
      button.setAttribute("aria-label", `Colours: ${theme}. Change`);
      if (theme === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = theme;
      button.dataset.theme = theme;
    };
    button.addEventListener("click", () =>
      set(THEMES[(THEMES.indexOf(button.dataset.theme) + 1) % THEMES.length])
    );
    set("auto");
    return button;
  };

  tw.start = () => {
    const holder = document.getElementById("view");
    if (!holder) return;
    document.getElementById("bar").append(tw.themeButton());
    const home = document.getElementById("report");
    try {
      tw.mount(home, JSON.parse(holder.textContent));
      document.documentElement.dataset.ready = "true";
    } catch (error) {
      home.textContent = `This page could not be drawn: ${error.message}`;
      throw error;
    }
  };
  document.addEventListener("DOMContentLoaded", tw.start);
})();
