// What a page does beyond links and forms: live state, the warning before an idle visit ends, keys on the screen.
const {dataset: d} = document.body, root = document.documentElement, $ = s => document.querySelector(s);
const post = (path, data) => fetch(d.base + path, {method: 'POST', redirect: 'manual', body: new URLSearchParams(data)}).catch(() => {});
const again = () => location.replace(location.pathname + location.search);

// A form is sent once: a finger that trembles presses twice. While its answer is on the way the page stays as it is:
// loading another one would throw the answer away.
let leaving = -1e6;
addEventListener('submit', e => {
  if (e.defaultPrevented) return;
  if (e.target.dataset.sent) return e.preventDefault();
  if (e.target.method === 'post') { e.target.dataset.sent = 1; leaving = performance.now(); }
});

// The municipality's messages. What is shown already stays as it is, so that it is not read out again.
const announce = all => {
  for (const box of [$('#emergency'), $('#notices')]) {
    const mine = all.filter(n => (n.severity === 'emergency') === (box.id === 'emergency'));
    for (const old of [...box.children]) if (!mine.some(n => n.id === old.dataset.id)) old.remove();
    mine.forEach((n, i) => {
      let el = [...box.children].find(c => c.dataset.id === n.id), fresh = !el;
      if (fresh) { el = $('#t-' + n.severity).content.firstElementChild.cloneNode(true); el.dataset.id = n.id; }
      const [head, text, note] = el.lastElementChild.children;
      text.lang = n.lang;
      for (const [to, s] of [[head, n.head], [text, n.text], [note, n.note]]) if (to.textContent !== s) to.textContent = s;
      if (box.children[i] !== el) box.insertBefore(el, box.children[i] ?? null);
      if (fresh && box.id === 'emergency') scrollTo(0, 0);
    });
  }
};

// Live state.
let lost;
const found = () => { clearTimeout(lost); lost = 0; $('#lost').hidden = true; };
const stream = new EventSource(`${d.base}/events?on=${d.page}&lang=${root.lang}`);
stream.addEventListener('beat', found);
stream.addEventListener('state', e => {
  found();
  const s = JSON.parse(e.data);
  announce(s.notices);
  if (performance.now() - leaving < 5000) return;
  if (!s.stay) return location.replace(s.page);
  if (d.reload && s.mark !== d.mark) return again();
  const t = $('#state');
  if (t && t.textContent !== s.state) t.textContent = s.state;
});
stream.onerror = () => { lost ||= setTimeout(() => { $('#lost').hidden = false; }, 2500); };
addEventListener('pagehide', () => stream.close());

// Size and contrast, at once and without loading the page: what was typed stays.
const sizes = ['', 'l', 'xl'];
for (const f of document.querySelectorAll('form[data-look]')) f.addEventListener('submit', e => {
  e.preventDefault();
  const v = f.querySelector('.v'), names = v.dataset.names.split('|');
  let n;
  if (f.dataset.look === 'size') {
    n = (sizes.indexOf(root.dataset.size) + 1) % 3;
    root.dataset.size = sizes[n];
  } else {
    n = root.dataset.theme === 'dark' ? 0 : 1;
    root.dataset.theme = n ? 'dark' : '';
  }
  v.textContent = names[n];
  post('/look', {set: f.dataset.look});
});

// Nobody there: ask, wait, leave. Somebody there: tell the box now and then.
const dialog = $('#idle'), left = $('#left'), wait = +d.idle;
let touched = performance.now(), told = touched, asked = 0;
const leave = async () => { await post('/exit', {reason: 'idle'}); location.replace(d.base); };
for (const type of ['pointerdown', 'keydown']) addEventListener(type, () => { touched = performance.now(); }, {passive: true});
dialog.addEventListener('close', () => { asked = 0; touched = performance.now(); });
setInterval(() => {
  const now = performance.now(), quiet = (now - touched) / 1000;
  if (d.session && quiet < (wait || 60) && now - told > 30000) { told = now; post('/touch', {}); }
  if (!wait) return;
  if (!dialog.open) {
    if (quiet > wait) { asked = now; left.textContent = d.warn; dialog.showModal(); }
    return;
  }
  const rest = Math.ceil(+d.warn - (now - asked) / 1000);
  if (left.textContent !== String(rest)) left.textContent = Math.max(rest, 0);
  if (rest <= 0) { asked = now + 1e6; leave(); }
}, 250);

// The attract page is one large button.
if (d.page === 'attract') document.addEventListener('click', e => {
  if (!e.target.closest('a,button')) location.assign($('.touch').href);
});

// A code: keys, groups, nothing but its alphabet.
const code = $('input[data-alphabet]');
if (code) {
  const {alphabet, length, group} = code.dataset;
  const set = s => {
    s = [...s.toUpperCase()].filter(c => alphabet.includes(c)).join('').slice(0, +length);
    code.value = s.length > +group ? `${s.slice(0, +group)} ${s.slice(+group)}` : s;
  };
  code.inputMode = 'none';
  code.addEventListener('input', () => set(code.value));
  code.form.addEventListener('click', e => {
    const key = e.target.closest('button[name=key]')?.value;
    if (!key) return;
    e.preventDefault();
    if (key === 'clear') set('');
    else if (key === 'del') set(code.value.replace(/ /g, '').slice(0, -1));
    else set(code.value + key);
  });
}

// The keyboard on the screen: real buttons, so that every aid finds them.
const osk = $('#osk');
if (osk) {
  let field = $('form input[type=text][aria-invalid=true]') ?? $('form input[type=text]'), up = true;
  const button = (label, name, wide) => {
    const b = document.createElement('button');
    b.type = 'button';
    b.className = 'btn' + (wide ? ' x' + wide : '');
    b.dataset.key = name;
    b.textContent = label;
    return b;
  };
  const letters = [];
  for (const line of ['1234567890/', 'qwertyuiopè', 'asdfghjklòà', 'zxcvbnmùìé\'']) {
    const row = document.createElement('div');
    for (const c of line) { const b = button(c, c); letters.push(b); row.append(b); }
    osk.append(row);
  }
  const row = document.createElement('div');
  row.append(button(osk.dataset.shift, 'shift', 2), button('-', '-'), button(osk.dataset.space, ' ', 5), button('.', '.'), button(osk.dataset.del, 'del', 2), button(osk.dataset.next, 'next', 2));
  osk.append(row);
  const shift = on => {
    up = on;
    for (const b of letters) b.textContent = on ? b.dataset.key.toUpperCase() : b.dataset.key;
    row.firstChild.setAttribute('aria-pressed', on);
  };
  const start = () => shift(!field || field.dataset.kind === 'code' || field.dataset.kind === 'province' || /(^|[\s'])$/.test(field.value.slice(0, field.selectionStart)));
  for (const i of document.querySelectorAll('form input[type=text]')) {
    i.inputMode = 'none';
    i.addEventListener('focus', () => { field = i; osk.hidden = false; start(); });
  }
  osk.addEventListener('pointerdown', e => e.preventDefault()); // the field keeps the focus
  osk.addEventListener('click', e => {
    const key = e.target.closest('button')?.dataset.key;
    if (!key || !field) return;
    if (key === 'shift') return shift(!up);
    if (key === 'next') {
      const all = [...document.querySelectorAll('form input[type=text]')];
      return all[(all.indexOf(field) + 1) % all.length].focus();
    }
    const a = field.selectionStart, z = field.selectionEnd;
    if (key === 'del') field.setRangeText('', a === z ? Math.max(a - 1, 0) : a, z, 'end');
    else if (field.value.length < field.maxLength || a !== z) field.setRangeText(up ? key.toUpperCase() : key, a, z, 'end');
    if (field.dataset.kind === 'date' && key !== 'del' && /^(\d\d|\d\d\/\d\d)$/.test(field.value)) field.setRangeText('/', field.value.length, field.value.length, 'end');
    field.focus();
    start();
  });
  start();
  if ($('form input:not([type=hidden])') === field) field.focus(); // else the first question is another one
  osk.hidden = document.activeElement !== field;
}

// The waiting room for when the box restarts.
if ('serviceWorker' in navigator && isSecureContext) {
  const policy = globalThis.trustedTypes?.createPolicy('sw', {createScriptURL: u => { if (u !== '/sw.js') throw new TypeError(u); return u; }});
  addEventListener('load', () => navigator.serviceWorker.register(policy ? policy.createScriptURL('/sw.js') : '/sw.js', {scope: '/'}).catch(() => {}));
}
