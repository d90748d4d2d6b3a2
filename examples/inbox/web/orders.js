// The table of orders: filled from the backend, changed by messages on the topic, and by one's own buttons.
import * as api from "./api.js";
import { byId, el, icon, setTime } from "./dom.js";
import { failed, toast } from "./toast.js";

const states = ["new", "packed", "shipped", "delivered"];
const stateWords = { new: "New", packed: "Packed", shipped: "Shipped", delivered: "Delivered" };
const nextWords = { new: "Pack", packed: "Ship", shipped: "Deliver" };
const euros = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" });
const flashMs = 2600;

/** @param {{me: {id: string}, mention: (order: number) => void}} options */
export function ordersTable({ me, mention }) {
  const rows = new Map(); // id → { order, view }
  const body = byId("rows");

  /** Takes a row from wherever it comes, unless a newer one is here already. Says whether it was taken. */
  function put(order, { flash = false } = {}) {
    if (!isOrder(order)) return false;
    const held = rows.get(order.id);
    if (held && held.order.version >= order.version) return false;
    const view = held?.view ?? newRow(order.id);
    if (!held) {
      // Newest first: before the first row with a lower number.
      const after = [...rows.keys()].filter((id) => id < order.id).sort((a, b) => b - a)[0];
      body.insertBefore(view.tr, after === undefined ? null : rows.get(after).view.tr);
    }
    rows.set(order.id, { order, view });
    fill(view, order);
    if (flash) light(view.tr);
    summary();
    return true;
  }

  /** Fetches all orders. A row that came by message and is newer than the answer stays. */
  async function load() {
    byId("orders").setAttribute("aria-busy", "true");
    try {
      const { orders, version } = await api.orders();
      const present = new Set(orders.map((order) => order.id));
      for (const [id, { order, view }] of rows) {
        if (!present.has(id) && order.version <= version) { view.tr.remove(); rows.delete(id); }
      }
      for (const order of orders) put(order, { flash: rows.has(order.id) });
      summary();
    } catch (error) {
      if (rows.size > 0) failed("The orders could not be refreshed", error);
      else nothing("The orders could not be loaded", error.message, el("button", { type: "button", onclick: load }, "Try again"));
    } finally {
      byId("orders").setAttribute("aria-busy", "false");
    }
  }

  function newRow(id) {
    const view = {
      customer: el("td", { role: "cell", class: "customer" }),
      items: el("td", { role: "cell", class: "items" }),
      total: el("td", { role: "cell", class: "num total" }),
      stops: el("span", { class: "stops", "aria-hidden": "true" }, ...states.map(() => el("i"))),
      state: el("b", { "data-testid": "status" }),
      who: el("span"),
      when: el("time"),
      next: el("button", { type: "button", "data-testid": "advance", onclick: () => advance(id) }),
      done: el("span", { class: "done", hidden: true }, icon("read"), "Done"),
      ask: el("button", { type: "button", class: "icon-button", "data-testid": "mention-order", "aria-label": `Mention a colleague on order ${id}`, title: "Mention a colleague", onclick: () => mention(id) }, icon("at")),
    };
    view.tr = el("tr", { role: "row", id: `order-${id}`, tabindex: "-1", "data-testid": "order", "data-order": id },
      el("td", { role: "cell", class: "number" }, `#${id}`), view.customer, view.items, view.total,
      el("td", { role: "cell", class: "progress" }, view.stops, view.state, el("small", {}, view.who, view.when)),
      el("td", { role: "cell", class: "act" }, view.next, view.done, view.ask));
    return view;
  }

  function fill(view, order) {
    const at = states.indexOf(order.status);
    view.customer.textContent = order.customer;
    view.items.textContent = order.lines.map(({ name, count }) => (count > 1 ? `${count} × ${name}` : name)).join(", ");
    view.total.textContent = euros.format(order.total_cents / 100);
    view.tr.dataset.status = order.status;
    view.tr.dataset.version = order.version;
    view.state.textContent = stateWords[order.status] ?? order.status;
    [...view.stops.children].forEach((stop, i) => stop.classList.toggle("past", i <= at));
    view.who.textContent = order.changed_by ? `${order.changed_by}, ` : "";
    setTime(view.when, order.changed_at);

    const next = nextWords[order.status];
    const focused = document.activeElement === view.next;
    view.next.hidden = !next;
    view.done.hidden = Boolean(next);
    view.next.textContent = next ?? "";
    view.next.setAttribute("aria-label", `${next} order ${order.id}`);
    if (focused && !next) view.ask.focus(); // the button that had the focus is gone
  }

  async function advance(id) {
    const { order, view } = rows.get(id);
    if (view.next.classList.contains("busy")) return;
    await busy(view.next, async () => {
      try {
        took(await api.advanceOrder(me.id, id, order.version));
      } catch (error) {
        if (error.body?.order) put(error.body.order, { flash: true }); // somebody was faster: this is how it stands
        failed(`Order ${id} was not changed`, error);
        if (error.status === 404) load(); // the backend started anew
      }
    });
  }

  async function create(button) {
    if (button.classList.contains("busy")) return;
    await busy(button, async () => {
      try {
        took(await api.createOrder(me.id));
      } catch (error) {
        failed("The order was not taken", error);
      }
    });
  }

  function took({ order, warning }) {
    put(order, { flash: true });
    if (warning) toast("Saved, but not told", { text: warning, bad: true });
  }

  function summary() {
    const count = Object.fromEntries(states.map((state) => [state, 0]));
    for (const { order } of rows.values()) count[order.status]++;
    for (const stop of byId("route").children) stop.querySelector("b").textContent = count[stop.dataset.status];
    byId("orders").hidden = rows.size === 0;
    if (rows.size === 0) nothing("No orders yet", "The first one is a button away: New order.");
    else byId("no-orders").hidden = true;
  }

  /** Brings an order into sight and the focus to it. Says whether there is one. */
  function reveal(id) {
    const held = rows.get(id);
    if (!held) return false;
    held.view.tr.scrollIntoView({ block: "center" });
    held.view.tr.focus({ preventScroll: true });
    light(held.view.tr);
    return true;
  }

  return { put, load, create, reveal };
}

// Others may publish on the topic too: what is no row of this table is not for it.
function isOrder(row) {
  return Number.isSafeInteger(row?.id) && Number.isSafeInteger(row.version) && states.includes(row.status) && Array.isArray(row.lines);
}

function nothing(title, text, ...more) {
  byId("orders").hidden = true;
  byId("no-orders").hidden = false;
  byId("no-orders").replaceChildren(icon("box"), el("b", {}, title), el("span", {}, text), ...more);
}

// aria-disabled and not disabled: a disabled button would lose the focus.
async function busy(button, work) {
  button.classList.add("busy");
  button.setAttribute("aria-disabled", "true");
  try {
    await work();
  } finally {
    button.classList.remove("busy");
    button.removeAttribute("aria-disabled");
  }
}

function light(tr) {
  tr.classList.remove("flash");
  void tr.offsetWidth; // so that a second change starts the animation anew
  tr.classList.add("flash");
  clearTimeout(light.timers.get(tr));
  light.timers.set(tr, setTimeout(() => tr.classList.remove("flash"), flashMs));
}
light.timers = new WeakMap();
