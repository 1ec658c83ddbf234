// The waiting room: keeps the page that a citizen sees while the box restarts, and nothing else.
const room = '@wait.html@';
const shell = [room, '@kiosk.css@', '@wait.js@', '@tw-400.woff2@', '@tw-700.woff2@'];
addEventListener('install', e => e.waitUntil(caches.open(room).then(c => c.addAll(shell)).then(() => skipWaiting())));
addEventListener('activate', e => e.waitUntil((async () => {
  for (const k of await caches.keys()) if (k !== room) await caches.delete(k);
  await clients.claim();
})()));
addEventListener('fetch', e => {
  if (e.request.mode === 'navigate') {
    e.respondWith(fetch(e.request).catch(() => caches.match(room)));
  } else if (shell.includes(new URL(e.request.url).pathname)) {
    e.respondWith(caches.match(e.request).then(r => r || fetch(e.request)));
  }
});
