// A sign of life while the page's own thread is busy with one long inference. A browser that is gone stops sending it.
onmessage = ({data: {url, everyMs}}) => {
  const beat = () => fetch(url, {method: 'POST'}).catch(() => {});
  beat();
  setInterval(beat, everyMs);
};
