// A stock JDK client, as Spring AI and langchain4j have it: its first request asks for h2c.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.util.List;

public class Client {
    public static void main(String[] arguments) throws Exception {
        byte[] body = arguments[1].getBytes("UTF-8");
        var publishers = List.of(
                BodyPublishers.ofByteArray(body),
                BodyPublishers.fromPublisher(BodyPublishers.ofByteArray(body))); // chunked
        for (var publisher : publishers) {
            var client = HttpClient.newHttpClient();
            for (int i = 0; i < 2; i++) {
                var request = HttpRequest.newBuilder(URI.create(arguments[0]))
                        .header("Content-Type", "application/json")
                        .POST(publisher)
                        .build();
                var response = client.send(request, HttpResponse.BodyHandlers.ofString());
                System.out.println(response.statusCode() + " " + response.body().length());
            }
        }
    }
}
