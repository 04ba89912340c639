// Drawing: elements, figures, tables, charts. Every text becomes a text node; none is ever markup.
(() => {
  "use strict";
  const tw = (window.tilewright = window.tilewright || {});

  tw.el = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name === "style") Object.assign(made.style, value);
      else made.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined) made.append(child);
    }
    return made;
  };

  const SVG = "http://www.w3.org/2000/svg";
  tw.svg = (tag, attributes = {}, ...children) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  const scaled = (value, units, digits = 3) => {
    for (const [unit, scale] of units) {
      if (Math.abs(value) >= scale) return `${(value / scale).toPrecision(digits)} ${unit}`;
    }
    const [unit, scale] = units[units.length - 1];
    return `${Number((value / scale).toPrecision(digits))} ${unit}`;
  };
  const ENERGY = [["J", 1e12], ["mJ", 1e9], ["µJ", 1e6], ["nJ", 1e3], ["pJ", 1]];
  tw.count = (value) => Number(value).toLocaleString("en-US", { maximumFractionDigits: 0 });
  tw.short = (value) =>
    value >= 1e5 ? scaled(value, [["G", 1e9], ["M", 1e6], ["k", 1e3]]) : tw.count(value);
  tw.bytes = (bytes) => {
    const units = [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 1024]];
    for (const [unit, scale] of units) {
      if (bytes >= scale) return `${Number((bytes / scale).toFixed(2))} ${unit}`;
    }
    return `${Number(bytes.toFixed(2))} B`;
  };
  tw.energy = (value) => scaled(value, ENERGY, 4);
  tw.percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 2 : 1)} %`;
  tw.written = (form, value) => {
    const forms = {
      energy: tw.energy,
      cycles: (cycles) => `${tw.short(cycles)} cycles`,
      count: tw.count,
      percent: tw.percent,
      bytes: tw.bytes,
      watt: (watts) => scaled(watts, [["W", 1], ["mW", 1e-3], ["µW", 1e-6]]),
      area: (area) => `${Number(area.toPrecision(4))} mm²`,
      number: (number) => Number(number.toPrecision(4)).toExponential(3).replace("e+", "e"),
    };
    return forms[form] ? forms[form](value) : String(value);
  };

  tw.facts = (facts) =>
    tw.el(
      "dl",
      { class: "facts" },
      facts.map((fact) =>
        tw.el(
          "div",
          { class: `fact ${fact.tone || ""}` },
          tw.el("dt", {}, fact.label),
          tw.el("dd", {}, tw.written(fact.form, fact.value)),
          fact.share ? meter(fact) : null,
          fact.note ? tw.el("dd", { class: "note" }, fact.note) : null
        )
      )
    );

  const meter = (fact) =>
    tw.el(
      "dd",
      { class: "meter", "aria-hidden": "true" },
      tw.el("span", { style: { width: `${Math.min(100, 100 * fact.share)}%` } })
    );

  // A table that scrolls inside itself on a narrow screen, and can be reached by keyboard.
  tw.table = (caption, heads, rows, options = {}) => {
    const row = (cells, tag) =>
      cells.map((cell, number) => {
        const left = number < (options.texts || 1);
        const scope = tag === "th" ? "col" : number === 0 ? "row" : null;
        return tw.el(
          number === 0 ? "th" : tag,
          { scope, class: left ? "text" : "figure" },
          cell === null || cell === undefined ? "–" : cell
        );
      });
    return tw.el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      tw.el(
        "table",
        {},
        tw.el("caption", {}, caption),
        tw.el("thead", {}, tw.el("tr", {}, row(heads, "th"))),
        tw.el(
          "tbody",
          {},
          rows.map((cells, number) =>
            tw.el("tr", options.row ? options.row(number) : {}, row(cells, "td"))
          )
        )
      )
    );
  };

  // A select with its label, and what to do when it changes.
  let labelled = 0;
  tw.select = (label, options, value, onChange) => {
    labelled += 1;
    const id = `choose-${labelled}`;
    const made = tw.el(
      "select",
      { id, onchange: (event) => onChange(event.target.value) },
      options.map(([key, text]) => tw.el("option", { value: key }, text))
    );
    made.value = value;
    return tw.el("span", { class: "control" }, tw.el("label", { for: id }, label), made);
  };

  const CONFIG = {
    background: null,
    font: "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: "var(--muted)",
      titleColor: "var(--muted)",
      titleFontWeight: 500,
      gridColor: "var(--line)",
      domainColor: "var(--line)",
      tickColor: "var(--line)",
      labelFontSize: 12,
      titleFontSize: 12,
    },
    legend: { labelColor: "var(--ink)", labelFontSize: 12, labelLimit: 260, symbolSize: 120 },
  };

  tw.charts = [];
  // Draw a chart; returns a function that sets one of its signals. Colours are CSS variables.
  tw.chart = (holder, spec, rows, onPick) => {
    const names = [];
    rows.forEach((row) => (names[row.key] = row.label));
    const params = [...(spec.params || []), { name: "names", value: names }];
    const whole = { ...spec, params, data: { name: "rows", values: rows } };
    holder.textContent = "";
    const made = window.vegaEmbed(holder, whole, {
      mode: "vega-lite",
      actions: false,
      defaultStyle: false,
      renderer: "svg",
      ast: true, // expressions are interpreted: the page's policy lets no text become a program
      config: CONFIG,
      logLevel: 1, // errors
      tooltip: showTip,
      expressionFunctions: { bytes: tw.bytes },
    });
    made.then(({ view }) => {
      tw.charts.push(view);
      if (!onPick) return;
      view.addEventListener("click", (event, item) => item && item.datum && onPick(item.datum));
    });
    made.catch((error) => {
      holder.textContent = `This chart could not be drawn: ${error.message}`;
      console.error(error);
    });
    return (name, value) => made.then(({ view }) => view.signal(name, value).runAsync());
  };

  let tip = null;
  const showTip = (handler, event, item, value) => {
    if (!tip) {
      tip = tw.el("div", { class: "tip", "aria-hidden": "true" });
      document.body.append(tip);
    }
    const entries = value && typeof value === "object" ? Object.entries(value) : [];
    tip.style.display = entries.length ? "block" : "none";
    if (!entries.length) return;
    tip.replaceChildren(
      ...entries.map(([name, text]) =>
        tw.el("div", {}, tw.el("span", {}, name), tw.el("b", {}, String(text)))
      )
    );
    const right = event.clientX + 16 + tip.offsetWidth > window.innerWidth;
    tip.style.left = `${right ? Math.max(4, event.clientX - 12 - tip.offsetWidth) : event.clientX + 14}px`;
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 6)}px`;
  };

  // The rows of a chart as a table, made when somebody opens it.
  tw.asTable = (caption, columns, rows) => {
    const holder = tw.el("div");
    const keys = Object.keys(columns);
    const written = (value) => {
      if (value === null || value === undefined) return "–";
      return typeof value === "number" ? Number(value.toPrecision(5)).toLocaleString("en-US") : value;
    };
    const open = () => {
      if (holder.childElementCount) return;
      const body = rows.map((row) => keys.map((key) => written(row[key])));
      holder.append(tw.table(caption, Object.values(columns), body));
    };
    return tw.el(
      "details",
      { class: "as-table", ontoggle: open },
      tw.el("summary", {}, "The figures as a table"),
      holder
    );
  };
})();
