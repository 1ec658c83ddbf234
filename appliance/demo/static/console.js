// Keeps the console live: the same fragment that the server draws, once a second. Without it the page refreshes itself.
const main = document.getElementById("main");
let last = "";

async function look() {
  try {
    const r = await fetch("/live", { headers: { Accept: "text/html" } });
    if (r.ok) show(await r.text());
    document.body.classList.toggle("lost", !r.ok);
  } catch {
    document.body.classList.add("lost");
  }
}

function show(html) {
  if (html === last) return;
  last = html;
  const focused = document.activeElement && document.activeElement.id;
  const open = new Map([...main.querySelectorAll("details")].map((d) => [d.id, d.open]));
  const fresh = new DOMParser().parseFromString(html, "text/html");
  // Pictures that are there already stay, so that the tray does not flicker.
  const have = new Map([...main.querySelectorAll("img")].map((i) => [i.getAttribute("src"), i]));
  for (const img of fresh.querySelectorAll("img")) {
    const old = have.get(img.getAttribute("src"));
    if (old) img.replaceWith(old);
  }
  main.replaceChildren(...fresh.body.childNodes);
  for (const d of main.querySelectorAll("details")) if (open.has(d.id)) d.open = open.get(d.id);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

main.addEventListener("submit", async (e) => {
  e.preventDefault();
  const data = new URLSearchParams(new FormData(e.target, e.submitter));
  e.submitter?.setAttribute("aria-busy", "true");
  try {
    await fetch(e.target.action, { method: "POST", body: data, headers: { Accept: "application/json" } });
  } finally {
    last = "";
    look();
  }
});

main.addEventListener("click", (e) => {
  const a = e.target.closest("a[data-window=phone]");
  if (!a || e.metaKey || e.ctrlKey) return;
  const w = window.open(a.href, "telefono", "popup,width=400,height=820");
  if (w) e.preventDefault();
});

setInterval(look, 1000);
