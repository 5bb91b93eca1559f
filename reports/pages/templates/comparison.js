(async () => {
  page = JSON.parse(await unpack("data"));
  await drawWhenSeen(name => page.charts[name]);
})();
