// A small shop: a list, a page for each tea, a cart. sokuji.js, loaded from the `api` role, tracks the visitors' actions.
"use strict";

window.sokuji = (...call) => { (window.sokuji.q = window.sokuji.q || []).push(call); };
// After sign-in the page passes on the signature from the shop's server: sokuji("identify", userId, traits, { signature }).
sokuji("init", window.shop);

const tag = document.createElement("script");
tag.src = `${window.shop.actions}/sokuji.js`;
tag.async = true;
document.head.append(tag);

const PRODUCTS = [
  { item: "sencha", name: "Sencha, first flush", category: "green", price: 18, colours: ["#dfead2", "#7fa65a", "#4b7d3c"], text: "Bright and grassy, with a clean finish. Steam lightly, pour at 75 °C." },
  { item: "gyokuro", name: "Gyokuro, shaded", category: "green", price: 34, colours: ["#d3e6df", "#3f8f72", "#1f5c4a"], text: "Three weeks under cover make it deep and sweet. Pour at 55 °C and wait." },
  { item: "hojicha", name: "Hojicha, slow roast", category: "roasted", price: 14, colours: ["#f1e2d0", "#b07b4b", "#7a4a28"], text: "Roasted over charcoal. Warm, nutty, hardly any caffeine." },
  { item: "genmaicha", name: "Genmaicha", category: "roasted", price: 12, colours: ["#f4edd2", "#c3a748", "#7d8f3d"], text: "Green tea and toasted rice: a cup for cold afternoons." },
  { item: "matcha", name: "Matcha, stone ground", category: "powder", price: 29, colours: ["#e3efcf", "#8fbf3f", "#55812a"], text: "Milled an hour a tin. For the bowl, not for the oven." },
  { item: "wakocha", name: "Wakocha, black", category: "black", price: 16, colours: ["#f3d9cf", "#b5533c", "#6e2a22"], text: "A Japanese black tea, soft and honeyed, good without milk." },
];
const find = (item) => PRODUCTS.find((product) => product.item === item);
const money = (amount) => `€${amount.toFixed(2)}`;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function art(product) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const [back, leaf, dark] = product.colours;
  svg.setAttribute("viewBox", "0 0 160 100");
  svg.setAttribute("preserveAspectRatio", "xMidYMid slice");
  svg.setAttribute("class", "art");
  const shapes = [
    ["rect", { width: 160, height: 100, fill: back }],
    ["circle", { cx: 122, cy: 26, r: 13, fill: "#fff", opacity: 0.6 }],
    ["path", { d: "M0 84 Q40 60 80 80 T160 70 V100 H0 Z", fill: leaf, opacity: 0.3 }],
    ["path", { d: "M54 46 H106 Q106 80 80 80 Q54 80 54 46 Z", fill: dark }],
    ["path", { d: "M105 52 Q120 52 116 64 Q112 71 101 70", fill: "none", stroke: dark, "stroke-width": 4 }],
    ["ellipse", { cx: 80, cy: 46, rx: 26, ry: 5, fill: leaf }],
    ["path", { d: "M72 36 Q68 29 73 23 M84 36 Q80 28 86 20", fill: "none", stroke: "#fff", "stroke-width": 2.5, "stroke-linecap": "round", opacity: 0.8 }],
  ];
  for (const [name, attributes] of shapes) {
    const shape = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  }
  return svg;
}

const cart = [];

function showList() {
  document.querySelector("#products").replaceChildren(...PRODUCTS.map((product) =>
    element("a", { className: "card", href: `#${product.item}` },
      art(product),
      element("div", { className: "words" },
        element("div", { className: "row" }, element("h2", { textContent: product.name }), element("span", { textContent: money(product.price) })),
        element("p", { className: "soft", textContent: product.category })))));
  sokuji("page", { name: "list" });
}

function showDetail(product) {
  const add = element("button", { id: "add", textContent: "Add to cart", onclick: () => {
    cart.push(product);
    document.querySelector("#cart-count").textContent = cart.length;
    sokuji("track", "cart", { item: product.item, name: product.name, category: product.category, price: product.price });
  } });
  document.querySelector("#detail").replaceChildren(
    element("a", { className: "back", href: "#", textContent: "← All teas" }),
    element("div", { className: "detail" }, art(product),
      element("div", {}, element("p", { className: "soft", textContent: product.category }), element("h2", { textContent: product.name }),
        element("p", { textContent: product.text }), element("p", { className: "price", textContent: money(product.price) }), add)));
  sokuji("page", { name: "item" });
  sokuji("track", "view", { item: product.item, name: product.name, category: product.category, price: product.price });
}

function showCart() {
  const revenue = cart.reduce((sum, product) => sum + product.price, 0);
  const buy = element("button", { id: "buy", textContent: `Buy for ${money(revenue)}`, disabled: !cart.length, onclick: () => {
    sokuji("track", "buy", { revenue, items: cart.map((product) => product.item) });
    cart.length = 0;
    document.querySelector("#cart-count").textContent = "0";
    document.querySelector("#cart").replaceChildren(element("h2", { textContent: "Thank you!" }));
  } });
  document.querySelector("#cart").replaceChildren(
    element("h2", { textContent: "Your cart" }),
    ...cart.map((product) => element("div", { className: "line" }, element("span", { textContent: product.name }), element("span", { textContent: money(product.price) }))),
    ...(cart.length ? [] : [element("p", { className: "soft", textContent: "Nothing here yet." })]),
    buy);
  sokuji("page", { name: "cart" });
}

function route() {
  const place = location.hash.slice(1);
  const product = find(place);
  const shown = product ? "detail" : place === "cart" ? "cart" : "list";
  for (const id of ["list", "detail", "cart"]) document.querySelector(`#${id}`).hidden = id !== shown;
  if (product) showDetail(product);
  else if (shown === "cart") showCart();
  else showList();
  scrollTo(0, 0);
}

addEventListener("hashchange", route);
route();
