// What the staff's pages do beyond links and forms: a form is sent once, and a page follows what happens.
const {dataset: d} = document.body;
addEventListener('submit', e => {
  if (e.target.dataset.sent) return e.preventDefault();
  e.target.dataset.sent = 1;
});
// A page on which somebody types, or has opened something, stays as it is.
const busy = () => document.hidden || document.activeElement?.matches('input') || document.querySelector('details[open]') || document.querySelector('form[data-sent]');
if (d.anew) setInterval(async () => {
  if (busy()) return;
  const on = new URL(location), ask = new URLSearchParams({on: d.page, id: on.searchParams.get('id') ?? ''});
  try {
    const r = await fetch('/staff/mark?' + ask);
    if (r.ok && await r.text() !== d.mark && !busy()) location.replace(d.anew);
  } catch { /* the box is away: the page stays, and asks again */ }
}, 3000);
