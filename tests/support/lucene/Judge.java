// Lucene's own answer: `tokens` analyses texts, `search INDEX K1 B HITS` ranks documents of an
// Anserini index. Texts come from stdin, each ended by a NUL; every answer is one line.

import io.anserini.analysis.DefaultEnglishAnalyzer;
import io.anserini.search.query.BagOfWordsQueryGenerator;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.StringJoiner;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.ScoreDoc;
import org.apache.lucene.search.similarities.BM25Similarity;
import org.apache.lucene.store.FSDirectory;

public class Judge {
  static final Analyzer ENGLISH = DefaultEnglishAnalyzer.newDefaultInstance();

  public static void main(String[] words) throws Exception {
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    if (words[0].equals("tokens")) {
      for (String text : texts()) out.print(tokens(text) + "\n");
    } else {
      DirectoryReader reader = DirectoryReader.open(FSDirectory.open(Path.of(words[1])));
      IndexSearcher searcher = new IndexSearcher(reader);
      searcher.setSimilarity(
          new BM25Similarity(Float.parseFloat(words[2]), Float.parseFloat(words[3])));
      for (String text : texts()) {
        var query = new BagOfWordsQueryGenerator().buildQuery("contents", ENGLISH, text);
        StringJoiner hits = new StringJoiner("\t");
        for (ScoreDoc hit : searcher.search(query, Integer.parseInt(words[4])).scoreDocs)
          hits.add(reader.document(hit.doc).get("id") + " " + Float.floatToIntBits(hit.score));
        out.print(hits + "\n");
      }
    }
    out.flush();
  }

  static String tokens(String text) throws Exception {
    StringJoiner found = new StringJoiner("\t");
    try (TokenStream stream = ENGLISH.tokenStream("contents", text)) {
      CharTermAttribute term = stream.addAttribute(CharTermAttribute.class);
      stream.reset();
      while (stream.incrementToken()) found.add(term.toString());
      stream.end();
    }
    return found.toString();
  }

  static List<String> texts() throws Exception {
    var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    List<String> found = new ArrayList<>();
    StringBuilder text = new StringBuilder();
    for (int next = in.read(); next >= 0; next = in.read()) {
      if (next != 0) {
        text.append((char) next);
      } else {
        found.add(text.toString());
        text.setLength(0);
      }
    }
    return found;
  }
}
