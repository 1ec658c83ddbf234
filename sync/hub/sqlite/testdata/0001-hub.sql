-- What a hub of the first release had in its database.
INSERT INTO box (number, branch, kiosks, login_epoch, key_id, token_key, created, enrolled, revoked, contact, pending) VALUES
    (1, 'Biblioteca Harar', 2, 1, 'key', x'00', '2026-11-01T08:00:00Z', '2026-11-02T08:00:00Z', '', '2026-11-20T10:06:00Z', 4),
    (2, 'Niguarda', 1, 1, '', x'', '2026-11-01T08:00:00Z', '', '', '', -1);
INSERT INTO event (box, epoch, seq, received, happened, kind, session, mode, pages, body) VALUES
    (1, '00112233aabbccdd', 1, '2026-11-20T10:00:05Z', '2026-11-20T10:00:00Z', 'session.started', 'a', 'self', 0, '{"seq":1,"at":"2026-11-20T10:00:00Z","clock_ok":true,"kind":"session.started","session":"a","detail":{"mode":"self"}}'),
    (1, '00112233aabbccdd', 2, '2026-11-20T10:02:05Z', '2026-11-20T10:02:00Z', 'print.done', 'a', '', 2, '{"seq":2,"at":"2026-11-20T10:02:00Z","clock_ok":true,"kind":"print.done","session":"a","detail":{"pages":2}}'),
    (1, '00112233aabbccdd', 3, '2026-11-20T10:03:05Z', '2026-11-20T10:03:00Z', 'session.started', 'b', 'self', 0, '{"seq":3,"at":"2026-11-20T10:03:00Z","clock_ok":true,"kind":"session.started","session":"b","detail":{"mode":"self"}}'),
    (1, '00112233aabbccdd', 4, '2026-11-20T10:05:05Z', '2026-11-20T10:05:00Z', 'print.done', 'b', '', 1, '{"seq":4,"at":"2026-11-20T10:05:00Z","clock_ok":true,"kind":"print.done","session":"b","detail":{"pages":1}}'),
    (1, '00112233aabbccdd', 5, '2026-11-20T10:05:05Z', '2026-11-20T10:05:05Z', '', '', '', 0, '{"seq":5,"at":"yesterday"}'),
    (1, '00112233aabbccee', 1, '2026-11-21T10:00:05Z', '2026-11-21T10:00:05Z', 'session.started', 'c', 'assisted', 0, '{"seq":1,"at":"1970-01-01T00:00:09Z","clock_ok":false,"kind":"session.started","session":"c","detail":{"mode":"assisted"}}');
INSERT INTO request (code, box, received, body) VALUES ('234567', 1, '2026-11-20T10:00:05Z', '{"code":"234567","left":"2026-11-20T10:00:00Z","certificates":["residenza"],"recipient":"private","holder":"self","exemption":0,"language":"it"}');
