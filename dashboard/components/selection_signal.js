export default function ({ data }) {
  postNews(data.channel, data.topic, data.value);
}
