"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const make = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const labelOf = (c) => data.labels[c];
  const shownScore = (value) => (value === null ? "–" : value.toFixed(3));
  const cards = [...document.querySelectorAll("#cards > .card")];
  const rows = [...document.querySelectorAll("#class-table tbody tr")];
  const plain = (text) => text.normalize("NFKC").toLocaleLowerCase();
  const ids = cards.map((card) => card.querySelector(".more bdi").textContent);
  let now = data.scorers[0];

  // --- the gallery

  const control = (id) => byId(id);
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  const number = (value) => (value === null ? -Infinity : value);
  const orders = {
    id: (a, b) => a - b,
    label: (a, b) => compare(labelOf(data.targets[a]), labelOf(data.targets[b])) || a - b,
    predicted: (a, b) => compare(labelOf(now.predicted[a]), labelOf(now.predicted[b])) || a - b,
    high: (a, b) => number(now.score[b]) - number(now.score[a]) || a - b,
    low: (a, b) => number(now.score[a]) - number(now.score[b]) || a - b,
    margin: (a, b) => number(now.score[b]) - number(now.label_score[b]) - number(now.score[a]) + number(now.label_score[a]) || a - b,
  };

  const filter = () => {
    const words = plain(control("find").value).split(/\s+/).filter(Boolean);
    const label = control("of-class").value, taken = control("as-class").value, which = control("which").value;
    let shown = 0;
    cards.forEach((card, n) => {
      const own = data.targets[n], as = now.predicted[n];
      const text = words.length ? plain(`${ids[n]} ${labelOf(own)} ${labelOf(as)}`) : "";
      const fits = (!label || own === Number(label)) && (!taken || as === Number(taken)) &&
        (!which || (which === "right") === (own === as)) && words.every((word) => text.includes(word));
      card.hidden = !fits;
      shown += fits;
    });
    const all = cards.length, noun = all === 1 ? "video" : "videos";
    byId("shown").textContent = shown === all ? `${all.toLocaleString("en")} ${noun}`
      : `${shown.toLocaleString("en")} of ${all.toLocaleString("en")} ${noun}`;
    byId("none").hidden = shown > 0;
  };
  const sort = () => {
    const order = cards.map((_, n) => n).sort(orders[control("order").value]);
    byId("cards").append(...order.map((n) => cards[n]));
  };
  const showIn = (label, taken) => {
    control("filters").reset();
    control("of-class").value = label;
    control("as-class").value = taken ?? "";
    sort();
    filter();
    location.hash = "#gallery";
    control("of-class").focus({ preventScroll: true });
  };
  const updateCards = () => cards.forEach((card, n) => {
    const right = data.targets[n] === now.predicted[n];
    card.classList.toggle("is-right", right);
    card.classList.toggle("is-wrong", !right);
    const mark = card.querySelector(".mark"), as = card.querySelector(".as");
    mark.className = `mark ${right ? "right" : "wrong"}`;
    mark.textContent = right ? "✓" : "✗";
    mark.title = right ? "right" : "wrong";
    as.replaceChildren(...(right ? [] : ["taken for ", make("bdi", "", labelOf(now.predicted[n]))]));
    card.querySelector(".score").textContent = shownScore(now.score[n]);
  });

  // --- confusions and classes

  const pictureOf = (n) => {
    const own = n === undefined ? null : cards[n].querySelector(".thumb");
    return own ? own.cloneNode(true) : null;
  };
  const updatePairs = () => {
    byId("pairs").replaceChildren(...now.pairs.map(([label, taken, count, examples]) => {
      const button = make("button", "pair"), thumbs = make("span", "thumbs");
      const own = make("span", "words"), other = make("span", "words");
      button.type = "button";
      Object.assign(button.dataset, { label, taken });
      thumbs.append(...examples.map(pictureOf).filter(Boolean));
      own.append(make("bdi", "", labelOf(label)));
      other.append(make("span", "wrong", "taken for"), " ", make("bdi", "", labelOf(taken)));
      button.append(thumbs, own, other, make("span", "count", `${count} of ${data.totals[label]}`));
      const item = make("li");
      item.append(button);
      return item;
    }));
    byId("no-pairs").hidden = now.pairs.length > 0;
  };
  const shareOf = (c) => (100 * now.hits[c]) / data.totals[c];
  const updateClasses = () => rows.forEach((row) => {
    const c = Number(row.dataset.class), cell = row.querySelector(".mistaken"), other = now.mistaken[c];
    row.querySelector(".top1 .fill").style.width = `${shareOf(c)}%`;
    row.querySelector(".top1 .number").textContent = shareOf(c).toFixed(1);
    cell.replaceChildren(...(other ? [make("bdi", "", labelOf(other[0])), " ", make("span", "count", other[1])] : []));
  });
  const classKeys = {
    name: (c) => labelOf(c),
    total: (c) => data.totals[c],
    top1: shareOf,
    mistaken: (c) => (now.mistaken[c] ? now.mistaken[c][1] : 0),
  };
  const sortClasses = () => {
    const head = document.querySelector("#class-table th[aria-sort]"), key = classKeys[head.querySelector("button").dataset.key];
    const sign = head.getAttribute("aria-sort") === "ascending" ? 1 : -1;
    const of = (row) => key(Number(row.dataset.class));
    const by = (a, b) => (typeof of(a) === "string" ? compare(of(a), of(b)) : of(a) - of(b));
    rows.sort((a, b) => sign * by(a, b) || a.dataset.class - b.dataset.class);
    document.querySelector("#class-table tbody").append(...rows);
  };

  // --- what is pressed

  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest(selector);
    const pair = at(".pair"), ofClass = at(".class"), head = at(".sort"), more = at(".more");
    if (pair) showIn(pair.dataset.label, pair.dataset.taken);
    if (ofClass) showIn(ofClass.dataset.class);
    if (more) open(Number(more.closest(".card").dataset.n));
    if (head) {
      const th = head.closest("th"), before = th.getAttribute("aria-sort");
      const starts = head.dataset.key === "name" || head.dataset.key === "top1" ? "ascending" : "descending";
      const turned = before === "ascending" ? "descending" : "ascending";
      for (const other of th.parentElement.children) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", before ? turned : starts);
      sortClasses();
    }
  });
  const open = (n) => {
    byId("detail-title").replaceChildren(make("bdi", "", ids[n]));
    byId("detail-picture").replaceChildren(...[pictureOf(n)].filter(Boolean));
    byId("detail-label").replaceChildren(make("bdi", "", labelOf(data.targets[n])), data.splits[n] ? ` (${data.splits[n]})` : "");
    byId("detail-rows").replaceChildren(...data.scorers.map((scorer) => {
      const row = make("tr"), name = make("th"), taken = make("td"), right = scorer.predicted[n] === data.targets[n];
      name.scope = "row";
      name.append(make("bdi", "", scorer.name));
      taken.append(make("span", right ? "right" : "wrong", right ? "✓" : "✗"), " ", make("bdi", "", labelOf(scorer.predicted[n])));
      row.append(name, taken, make("td", "", shownScore(scorer.score[n])), make("td", "", shownScore(scorer.label_score[n])));
      return row;
    }));
    byId("detail").showModal();
  };
  byId("close").addEventListener("click", () => byId("detail").close());
  byId("detail").addEventListener("click", (event) => {
    if (event.target === byId("detail")) byId("detail").close();
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("input", (event) => {
    if (event.target.id === "order") sort();
    filter();
  });
  const reset = () => {
    sort();
    filter();
  };
  byId("filters").addEventListener("reset", () => setTimeout(reset));
  byId("reset").addEventListener("click", () => {
    byId("filters").reset();
    byId("find").focus();
  });
  if (byId("scorer")) {
    byId("chooser").addEventListener("submit", (event) => event.preventDefault());
    byId("scorer").addEventListener("input", (event) => {
      now = data.scorers[Number(event.target.value)];
      for (const each of document.querySelectorAll(".of-scorer")) each.textContent = now.name;
      updateCards();
      updatePairs();
      updateClasses();
      sortClasses();
      sort();
      filter();
    });
    byId("chooser").reset();
  }
  byId("filters").reset();
  document.documentElement.classList.remove("still");
})();
