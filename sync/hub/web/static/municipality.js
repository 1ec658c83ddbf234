// Keeps the figures fresh. Without it the page is as fresh as the last reload.
'use strict';
setInterval(async () => {
  if (document.hidden || document.activeElement?.closest('.scroll')) return; // do not take away what is being read
  try {
    const answer = await fetch(location.href, { cache: 'no-store' });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const fresh = page.getElementById('content');
    if (fresh) document.getElementById('content').replaceWith(document.adoptNode(fresh));
  } catch { /* the hub is away: the page says how old its figures are */ }
}, 3000);
